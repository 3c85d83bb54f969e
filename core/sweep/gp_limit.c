#include "sweep/gp_limit.h"

#include "sweep/real.h"


/* density(z) / probability(z): the slope of log probability. */
static double hazard(double z)
{
	if (z > -1)
		return pio_real_exp(-0.5 * z * z - PIO_REAL_HALF_LOG_2PI) / pio_real_ndtr(z);
	return 1 / (PIO_REAL_SQRT_HALF_PI * pio_real_erfcx(-z * PIO_REAL_SQRT_HALF));
}

double pio_gp_log_feasible(double *gradient, const pio_gp_limits *limits, const double *unit)
{
	double sum = 0, mean, deviation, mean_gradient[PIO_GP_AXES_MAX], deviation_gradient[PIO_GP_AXES_MAX];
	for (int i = 0; i < limits->count; i++) {
		pio_gp *gp = limits->all[i];
		int d;
		pio_gp_axes(&d, gp);
		pio_gp_predict(&mean, &deviation, gradient ? mean_gradient : NULL, gradient ? deviation_gradient : NULL,
		               gp, unit);
		double z = (pio_gp_zero(gp) - mean) / deviation;
		sum += pio_real_log_ndtr(z);
		double slope = gradient ? hazard(z) / deviation : 0;
		for (int a = 0; a < d && gradient; a++)
			gradient[a] -= slope * (mean_gradient[a] + z * deviation_gradient[a]);
	}
	return sum;
}
