#include "sweep/eigen.h"

#include <math.h>

#define SWEEPS_MAX 60
#define SMALL 1e-30                /* squared, of what is off the diagonal beside what is on it */

/* Columns p and q of a matrix turned by an angle of this cosine and sine. */
static void turn_columns(double *m, int n, int p, int q, double c, double s)
{
	for (int i = 0; i < n; i++) {
		double *row = m + i * n, x = row[p], y = row[q];
		row[p] = c * x - s * y;
		row[q] = s * x + c * y;
	}
}

static void turn_rows(double *m, int n, int p, int q, double c, double s)
{
	double *restrict a = m + p * n, *restrict b = m + q * n;
	for (int j = 0; j < n; j++) {
		double x = a[j], y = b[j];
		a[j] = c * x - s * y;
		b[j] = s * x + c * y;
	}
}

/* The angle that makes m[p][q] nought; the smaller of the two. */
static void rotate(double *m, double *vectors, int n, int p, int q)
{
	double off = m[p * n + q];
	if (off == 0)
		return;
	double tau = (m[q * n + q] - m[p * n + p]) / (2 * off);
	double t = (tau < 0 ? -1 : 1) / (fabs(tau) + sqrt(1 + tau * tau));
	double c = 1 / sqrt(1 + t * t), s = t * c;
	turn_columns(m, n, p, q, c, s);
	turn_rows(m, n, p, q, c, s);
	m[p * n + q] = m[q * n + p] = 0;
	turn_columns(vectors, n, p, q, c, s);
}

void pio_eigen(double *values, double *vectors, double *matrix, int count)
{
	int n = count;
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			vectors[i * n + j] = i == j;
	for (int sweep = 0; sweep < SWEEPS_MAX; sweep++) {
		double off = 0, on = 0;
		for (int i = 0; i < n; i++) {
			on += matrix[i * n + i] * matrix[i * n + i];
			for (int j = i + 1; j < n; j++)
				off += matrix[i * n + j] * matrix[i * n + j];
		}
		if (!(off > SMALL * on))
			break;
		for (int p = 0; p < n; p++)
			for (int q = p + 1; q < n; q++)
				rotate(matrix, vectors, n, p, q);
	}
	for (int i = 0; i < n; i++)
		values[i] = matrix[i * n + i];
}
