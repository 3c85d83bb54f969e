#include "sweep/gp_limit.h"

#include "sweep/real.h"

#define HALF_LOG_2PI 0.91893853320467274178
#define SQRT_HALF_PI 1.2533141373155002512
#define SQRT_HALF 0x1.6a09e667f3bcdp-1

/* density(z) / probability(z): the slope of log probability. */
static double hazard(double z)
{
	if (z > -1)
		return pio_real_exp(-0.5 * z * z - HALF_LOG_2PI) / pio_real_ndtr(z);
	return 1 / (SQRT_HALF_PI * pio_real_erfcx(-z * SQRT_HALF));
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
