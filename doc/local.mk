# SPDX-License-Identifier: Apache-2.0
# Manual pages and completions.  The program writes them (scripts/make-docs); a
# tarball carries a copy in doc/made for those who cross-compile.
dist_man_MANS = %D%/lamina-plugin.7
EXTRA_DIST += scripts/make-docs
made = %D%/made
plugin_modules = $(search_LTLIBRARIES) $(pruners_LTLIBRARIES) $(scorers_LTLIBRARIES) \
    $(repair_LTLIBRARIES) $(quant_LTLIBRARIES) $(evaluators_LTLIBRARIES) $(backends_LTLIBRARIES) \
    $(formats_LTLIBRARIES) $(reporters_LTLIBRARIES)

if !CROSS
all-local: $(made).stamp
$(made).stamp: lamina$(EXEEXT) $(plugin_modules) scripts/make-docs
	$(AM_V_GEN)$(MKDIR_P) %D% && \
	    $(SHELL) $(top_srcdir)/scripts/make-docs ./lamina$(EXEEXT) $(made).new && \
	    rm -rf $(made) && mv $(made).new $(made) && touch $@

clean-local:
	rm -rf $(made).new $(made).stamp $(made)

made_now = $(made).stamp
endif

bashcompdir = $(datadir)/bash-completion/completions
zshcompdir = $(datadir)/zsh/site-functions
fishcompdir = $(datadir)/fish/vendor_completions.d

# Goes through them: $$f is one, $$to where it is installed.
each_made = from=$(made); test -f $$from/lamina.1 || from=$(top_srcdir)/$(made); \
    for f in $$from/*; do \
        name=`basename $$f`; \
        case $$name in \
        *.1) to=$(man1dir)/$$name ;; \
        *.5) to=$(man5dir)/$$name ;; \
        *.7) to=$(man7dir)/$$name ;; \
        lamina.bash) to=$(bashcompdir)/lamina ;; \
        lamina.fish) to=$(fishcompdir)/lamina.fish ;; \
        _lamina) to=$(zshcompdir)/_lamina ;; \
        *) continue ;; \
        esac; \
        to=$(DESTDIR)$$to;

install-data-local:
	@$(each_made) $(MKDIR_P) `dirname "$$to"` && $(INSTALL_DATA) "$$f" "$$to" || exit 1; done

uninstall-local:
	@$(each_made) rm -f "$$to"; done

dist-hook: $(made_now)
	from=$(made); test -f $$from/lamina.1 || from=$(top_srcdir)/$(made); \
	if test -f $$from/lamina.1; then \
	    $(MKDIR_P) $(distdir)/$(made) && cp $$from/* $(distdir)/$(made); \
	fi
