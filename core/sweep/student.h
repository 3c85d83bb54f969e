/* student.h: Student's t distribution, whose bits are the same on every machine. */
#ifndef PIO_SWEEP_STUDENT_H
#define PIO_SWEEP_STUDENT_H

/* The probability below t with so many degrees of freedom, whole and at least 1; from
 * 100000 on the normal distribution's. Within 1e-12. */
double pio_student(double t, int freedom);

#endif
