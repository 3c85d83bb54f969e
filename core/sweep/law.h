/* law.h: the scaling law L(N, D) = E + A N^-alpha + B D^-beta of a loss in a model's size N
 * and the tokens D that it saw (Hoffmann et al., arXiv:2203.15556, approach 3).
 *
 * The fit makes sum Huber_1e-3(log L - log L_i) least, by BFGS from many starts; in place of
 * that paper's fixed grid the starts are laid about the points given. Where sizes or tokens
 * do not vary, or one follows from the other, the law has the one term alone that they tell
 * of. What is not known for sure comes from a bootstrap of the residuals: the law is fitted
 * again to its own losses with residuals drawn anew. The same bits on every machine. */
#ifndef PIO_SWEEP_LAW_H
#define PIO_SWEEP_LAW_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct pio_law_point {
	double size, tokens, loss;         /* all finite and above 0 */
} pio_law_point;

enum pio_law_terms { PIO_LAW_SIZE = 1, PIO_LAW_TOKENS = 2, PIO_LAW_BOTH = 3 };

typedef struct pio_law {
	double e, a, b, alpha, beta;       /* a = alpha = 0, or b = beta = 0, without that term */
	enum pio_law_terms terms;
	double noise;                      /* of a bootstrap: a residual of log L, drawn; else 0 */
} pio_law;

/* How many points a law of these terms needs: one more than it has numbers. Where they are too few
 * for both, the law is of the sizes, or where these are the same of the tokens. */
size_t pio_law_points_min(enum pio_law_terms terms);
/* PIO_EINVAL where there are fewer points than that, or one of them is no point. */
int pio_law_fit(pio_law *law, const pio_law_point *points, size_t count, pio_err *err);
/* laws[0 .. samples - 1] become fits to losses drawn anew; `law` was fitted to these points. */
int pio_law_bootstrap(pio_law *laws, size_t samples, const pio_law *law, const pio_law_point *points,
                      size_t count, int64_t seed, pio_err *err);
double pio_law_at(const pio_law *law, double size, double tokens);

#endif
