/* SPDX-License-Identifier: Apache-2.0 */
/* html.h -- what the parts of the html reporter share.
 *
 * html.c is the reporter and the sections of the page, html_page.c escaping
 * and number formats, html_plot.c the drawings (SVG) and html_assets.c style
 * and script.  The page is complete without the script, which adds the choice
 * of axes and better tooltips.                                              */
#ifndef LM_REPORTERS_HTML_H
#define LM_REPORTERS_HTML_H
#include "text.h"

void html_text(struct text *p, const char *s);          /* escaped; NULL is ""   */
void html_json_string(struct text *p, const char *s);   /* safe inside <script>  */
/* "215.3 MB", "134.5 M", "24.02"; "-" for NaN */
enum { HTML_NUMBER = 48 };
void html_format(char out[HTML_NUMBER], double v, const char *unit);

enum { HTML_METRICS = 64 };
struct view {                           /* the study, read once                  */
    const struct lm_host *host;
    const struct lm_study *study;
    const struct lm_arch *arch;         /* dense                                 */
    const char *metric[HTML_METRICS], *unit[HTML_METRICS];
    bool    objective[HTML_METRICS];
    int64_t n_metric;
    struct lm_trial *trial;             /* [n_trial]                             */
    int64_t n_trial;
    int64_t *front, n_front;            /* indices by the first objective        */
    int64_t dense, best;                /* indices, -1: none                     */
    int64_t x, y;                       /* metrics of the picture                */
};

/* What a metric of a trial is shown as: where it lost a race, the estimate. */
static inline double html_value(const struct lm_trial *t, int64_t metric)
{
    return t->estimate && !isnan(t->estimate[metric]) ? t->estimate[metric]
                                                      : t->value[metric];
}

void html_scatter(struct text *p, const struct view *v);
/* Share of each layer's KV groups (attn) or FFN channels that front members keep. */
void html_heat(struct text *p, const struct view *v, bool attn);

extern const char html_style[], html_script[];
#endif
