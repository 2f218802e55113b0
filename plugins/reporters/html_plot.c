/* SPDX-License-Identifier: Apache-2.0 */
/* html_plot.c -- the drawings of the report, as SVG that needs no script.
 *
 * Scatter: the range of the axes is that of front, dense and best, widened by
 * 0.6 of its extent where other trials lie; what lies outside is drawn at the
 * border, so that one ruined candidate doesn't flatten the picture.  The
 * script redraws with the same rules (html_assets.c).                        */
#include "html.h"

#include <math.h>
#include <stdio.h>

enum { WIDTH = 880, HEIGHT = 440, LEFT = 76, RIGHT = 20, TOP = 18, BOTTOM = 52,
       TICKS = 5, HEAT_ROWS = 40 };

struct axis { double min, max; int64_t metric; };

static bool is_shown(const struct view *v, int64_t i)
{
    const struct lm_trial *t = &v->trial[i];

    return t->status == LM_OK && isfinite(html_value(t, v->x)) &&
        isfinite(html_value(t, v->y));
}

static void widen(struct axis *a, double value)
{
    a->min = fmin(a->min, value);
    a->max = fmax(a->max, value);
}

static struct axis range(const struct view *v, int64_t metric)
{
    struct axis a = { INFINITY, -INFINITY, metric };
    struct axis all = a;

    for (int64_t i = 0; i < v->n_trial; i++) {
        if (!is_shown(v, i))
            continue;
        widen(&all, html_value(&v->trial[i], metric));
        if (v->trial[i].front || i == v->dense || i == v->best)
            widen(&a, html_value(&v->trial[i], metric));
    }
    if (!(a.min <= a.max))
        a = all;
    if (!(a.min <= a.max))
        a.min = 0, a.max = 1;
    double extent = a.max - a.min;
    if (!(extent > 0))
        extent = a.max != 0 ? fabs(a.max) * 0.1 : 1;
    a.max = fmin(fmax(all.max, a.max), a.max + 0.6 * extent) + 0.04 * extent;
    a.min = fmax(fmin(all.min, a.min), a.min - 0.6 * extent) - 0.04 * extent;
    return a;
}

static double place(const struct axis *a, double value, double from, double to)
{
    double f = (value - a->min) / (a->max - a->min);

    return from + fmin(fmax(f, 0), 1) * (to - from);
}

static double at_x(const struct axis *a, double value)
{
    return place(a, value, LEFT, WIDTH - RIGHT);
}

static double at_y(const struct axis *a, double value)
{
    return place(a, value, HEIGHT - BOTTOM, TOP);
}

/* 1, 2 or 5 times a power of ten, for about TICKS ticks */
static double tick_step(const struct axis *a)
{
    double raw = (a->max - a->min) / TICKS, base = pow(10, floor(log10(raw)));

    return raw / base < 1.5 ? base : raw / base < 3.5 ? 2 * base
         : raw / base < 7.5 ? 5 * base : 10 * base;
}

static void draw_axis(struct text *p, const struct view *v, const struct axis *a,
                      bool is_x)
{
    double step = tick_step(a);
    char number[HTML_NUMBER];
    int n = 0;

    for (double k = ceil(a->min / step); k * step <= a->max && n < 4 * TICKS; k++, n++) {
        double at = is_x ? at_x(a, k * step) : at_y(a, k * step);

        html_format(number, k == 0 ? 0 : k * step, v->unit[a->metric]);
        if (is_x)
            text_add(p, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" "
                     "y1=\"%d\" y2=\"%d\"/>"
                     "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", at, at,
                     TOP, HEIGHT - BOTTOM, at, HEIGHT - BOTTOM + 18, number);
        else
            text_add(p, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" "
                     "y1=\"%.1f\" y2=\"%.1f\"/>"
                     "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>", LEFT,
                     WIDTH - RIGHT, at, at, LEFT - 8, at + 4, number);
    }
    if (is_x)
        text_add(p, "<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
                 (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10);
    else
        text_add(p, "<text class=\"label\" text-anchor=\"middle\" "
                 "transform=\"translate(16 %d) rotate(-90)\">",
                 (TOP + HEIGHT - BOTTOM) / 2);
    html_text(p, v->metric[a->metric]);
    text_raw(p, "</text>\n");
}

/* What hovering over a point says. */
static void title(struct text *p, const struct view *v, int64_t i)
{
    char number[HTML_NUMBER];

    text_raw(p, "<title>");
    text_add(p, i == v->dense ? "dense (trial %lld)" : "trial %lld",
             (long long)v->trial[i].id);
    if (v->trial[i].estimate)
        text_add(p, ", estimated from %.0f %% of the items", 100 * v->trial[i].fidelity);
    for (int64_t m = 0; m < v->n_metric; m++) {
        html_format(number, html_value(&v->trial[i], m), v->unit[m]);
        text_raw(p, "\n");
        html_text(p, v->metric[m]);
        text_add(p, " %s", number);
    }
    text_raw(p, "</title>");
}

static void point(struct text *p, const struct view *v, const struct axis *x,
                  const struct axis *y, int64_t i)
{
    const struct lm_trial *t = &v->trial[i];
    double cx = at_x(x, html_value(t, v->x)), cy = at_y(y, html_value(t, v->y));

    if (i == v->dense)
        text_add(p, "<path class=\"dense\" d=\"M%.1f %.1fl7 7-7 7-7-7z\">", cx, cy - 7);
    else
        text_add(p, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\">",
                 i == v->best ? "best" : t->front ? "front"
                 : t->feasible ? "trial" : "out",
                 cx, cy, i == v->best ? "7" : t->front ? "5" : "3.5");
    title(p, v, i);
    text_raw(p, i == v->dense ? "</path>\n" : "</circle>\n");
}

void html_scatter(struct text *p, const struct view *v)
{
    struct axis x = range(v, v->x), y = range(v, v->y);

    text_add(p, "<svg id=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" "
             "aria-label=\"trials and front\">\n", WIDTH, HEIGHT);
    draw_axis(p, v, &x, true);
    draw_axis(p, v, &y, false);
    if (v->objective[v->x] && v->objective[v->y] && v->n_front > 1) {
        text_raw(p, "<polyline class=\"line\" points=\"");
        for (int64_t k = 0; k < v->n_front; k++) {
            const struct lm_trial *t = &v->trial[v->front[k]];

            text_add(p, "%.1f,%.1f ", at_x(&x, t->value[v->x]), at_y(&y, t->value[v->y]));
        }
        text_raw(p, "\"/>\n");
    }
    for (int pass = 0; pass < 3; pass++)        /* the rest, front, dense and best */
        for (int64_t i = 0; i < v->n_trial; i++) {
            int level = i == v->dense || i == v->best ? 2 : v->trial[i].front ? 1 : 0;

            if (level == pass && is_shown(v, i))
                point(p, v, &x, &y, i);
        }
    text_raw(p, "</svg>\n");
}

/* ---- heat map ---------------------------------------------------------------------- */

static void heat_cell(struct text *p, const struct view *v, const struct lm_trial *t,
                      int32_t layer, bool attn, double x, double y, double w)
{
    const struct lm_layer_shape *now = &t->layer[layer], *full = &v->arch->layer[layer];
    int32_t kept = attn ? now->n_head : now->n_ff;
    int32_t of = attn ? full->n_head : full->n_ff;
    double share = of > 0 ? (double)kept / of : 0;

    if (of == 0)
        return;
    if (kept == 0)
        text_add(p, "<rect class=\"gone\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                 "height=\"15\">", x, y, w - 1);
    else
        text_add(p, "<rect class=\"kept\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                 "height=\"15\" fill-opacity=\"%.3f\">", x, y, w - 1,
                 0.12 + 0.88 * share);
    text_add(p, "<title>trial %lld, layer %d: ", (long long)t->id, (int)layer);
    if (kept == 0)
        text_add(p, "no %s block", attn ? "attention" : "MLP");
    else if (attn)
        text_add(p, "%d of %d KV groups, %d of %d heads", (int)now->n_kv,
                 (int)full->n_kv, (int)kept, (int)of);
    else
        text_add(p, "FFN width %d of %d (%.0f %%)", (int)kept, (int)of, 100 * share);
    text_raw(p, "</title></rect>");
}

void html_heat(struct text *p, const struct view *v, bool attn)
{
    int64_t rows = v->n_front < HEAT_ROWS ? v->n_front : HEAT_ROWS;
    int32_t n = v->arch->n_layer;
    double w = n > 0 ? fmin(48, (double)(WIDTH - LEFT) / n) : 1;

    text_add(p, "<svg class=\"heat\" viewBox=\"0 0 %d %d\" role=\"img\" "
             "aria-label=\"shape by layer\">\n", WIDTH, (int)rows * 16 + 22);
    for (int64_t r = 0; r < rows; r++) {
        const struct lm_trial *t = &v->trial[v->front[r]];

        text_add(p, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\"%s>%s%lld</text>",
                 LEFT - 8, (int)r * 16 + 12,
                 v->front[r] == v->best ? " class=\"label\"" : "",
                 v->front[r] == v->best ? "\xe2\x98\x85 " : "", (long long)t->id);
        for (int32_t i = 0; i < n; i++)
            heat_cell(p, v, t, i, attn, LEFT + i * w, (double)r * 16, w);
        text_raw(p, "\n");
    }
    for (int32_t i = 0; i < n; i++)
        if (i % (w < 20 ? 5 : 1) == 0)
            text_add(p, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>",
                     LEFT + i * w + w / 2, (int)rows * 16 + 15, (int)i);
    text_raw(p, "</svg>\n");
}
