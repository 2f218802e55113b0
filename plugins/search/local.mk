# SPDX-License-Identifier: Apache-2.0
searchdir = $(plugindir)/search
search_LTLIBRARIES =

# What strategies share; compiled into each.
search_genes = %D%/genes.h %D%/genes.c
search_round = $(search_genes) %D%/round.h %D%/round.c
search_vary = %D%/vary.h %D%/vary.c
search_inner = %D%/inner.h %D%/inner.c
search_fronts = %D%/fronts.h %D%/fronts.c
search_breed = $(search_round) $(search_vary) %D%/breed.h %D%/breed.c

search_LTLIBRARIES += %D%/random.la
plugins_search_random_la_SOURCES = $(search_round) %D%/random.c
plugins_search_random_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/chain.la
plugins_search_chain_la_SOURCES = $(search_fronts) $(search_inner) %D%/genes.h \
    %D%/chain.c
plugins_search_chain_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/nsga2.la
plugins_search_nsga2_la_SOURCES = $(search_breed) $(search_fronts) %D%/nsga2.c
plugins_search_nsga2_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/grid.la
plugins_search_grid_la_SOURCES = $(search_round) %D%/grid.c
plugins_search_grid_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/greedy.la
plugins_search_greedy_la_SOURCES = $(search_round) $(search_fronts) %D%/greedy.c
plugins_search_greedy_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/halving.la
plugins_search_halving_la_SOURCES = $(search_fronts) $(search_inner) \
    %D%/genes.h %D%/halving.c
plugins_search_halving_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/local.la
plugins_search_local_la_SOURCES = $(search_round) $(search_vary) $(search_fronts) \
    %D%/local.c
plugins_search_local_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/one_plus_lambda.la
plugins_search_one_plus_lambda_la_SOURCES = $(search_round) $(search_vary) \
    $(search_fronts) %D%/one_plus_lambda.c
plugins_search_one_plus_lambda_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/regularized_evolution.la
plugins_search_regularized_evolution_la_SOURCES = $(search_round) $(search_vary) \
    $(search_fronts) %D%/regularized_evolution.c
plugins_search_regularized_evolution_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/lagrangian.la
plugins_search_lagrangian_la_SOURCES = %D%/lagrangian.c %D%/lagrangian.h \
    %D%/lagrangian_levels.c %D%/knapsack.c %D%/knapsack.h
plugins_search_lagrangian_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/nsga3.la
plugins_search_nsga3_la_SOURCES = $(search_breed) $(search_fronts) \
    %D%/niches.h %D%/niches.c %D%/nsga3.c
plugins_search_nsga3_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/linas.la
plugins_search_linas_la_SOURCES = $(search_breed) $(search_fronts) \
    %D%/regress.h %D%/regress.c %D%/predictor.h %D%/predictor.c %D%/linas.c
plugins_search_linas_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/mask_mutation.la
plugins_search_mask_mutation_la_SOURCES = $(search_round) $(search_vary) \
    $(search_fronts) %D%/prices.h %D%/prices.c %D%/importance.h \
    %D%/importance.c %D%/mask_mutation.c
plugins_search_mask_mutation_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/tpe.la
plugins_search_tpe_la_SOURCES = $(search_round) $(search_fronts) %D%/parzen.h \
    %D%/parzen.c %D%/tpe.c
plugins_search_tpe_la_LDFLAGS = $(PLUGIN_LINK)

search_LTLIBRARIES += %D%/bayes.la
plugins_search_bayes_la_SOURCES = $(search_round) $(search_vary) $(search_fronts) \
    %D%/gp.h %D%/gp.c %D%/improve.h %D%/improve.c %D%/bayes.c
plugins_search_bayes_la_LDFLAGS = $(PLUGIN_LINK)
