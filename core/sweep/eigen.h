/* eigen.h: eigenvalues and eigenvectors of a symmetric matrix, by Jacobi's rotations (Golub
 * and Van Loan, Matrix Computations, section 8.5). Slower than LAPACK's, but every step is
 * in a fixed order and asks for no more than + - * / and the square root, so its bits are
 * the same on every machine. */
#ifndef PIO_SWEEP_EIGEN_H
#define PIO_SWEEP_EIGEN_H

/* Of count x count numbers row by row, which are lost: values[i], in no order, belongs to
 * the column i of `vectors`. */
void pio_eigen(double *values, double *vectors, double *matrix, int count);

#endif
