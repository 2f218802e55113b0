/* SPDX-License-Identifier: Apache-2.0 */
/* parzen.h -- one-dimensional estimators of the plugin tpe: where the values of a gene
 * lie, as a table of probabilities over cells.
 *
 * A cell is a level of a discrete gene or, of a continuous gene and of one with more
 * than PARZEN_CELLS levels, a PARZEN_CELLS-th of its range, inside of which all is
 * equally likely.  Choices without order have a cell each, however many.        */
#ifndef PARZEN_H
#define PARZEN_H
#include <stdbool.h>
#include <stddef.h>

enum { PARZEN_CELLS = 128 };

/* p[n] from how often each cell was seen, count[n], and `prior` > 0 observations spread
 * evenly; sums to 1.  Ordered: each observation spreads over the cells as a Gaussian
 * that is cut off at both ends of the range and sums to 1 within it.  kernel: [n + 1]
 * numbers of scratch, used only if ordered.                                     */
void parzen_table(const double *count, size_t n, double prior, bool ordered, double *p,
                  double *kernel);
/* Standard deviation of these Gaussians, in cells. */
double parzen_width(const double *count, size_t n);
/* The cell where the sum of p passes u, 0 <= u < 1. */
size_t parzen_draw(const double *p, size_t n, double u);
/* What share p of a set's members, of which `in` of n observations have one. */
double parzen_share(double in, double n, double prior);
#endif
