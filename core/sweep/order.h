/* order.h: a stable sort of numbers of rows, which is the same everywhere: qsort of C is
 * neither, and an order that ties decide would decide proposals. */
#ifndef PIO_SWEEP_ORDER_H
#define PIO_SWEEP_ORDER_H

#include <stddef.h>
#include <stdint.h>

/* Below 0, 0 or above it, as for qsort. */
typedef int (*pio_order_compare)(const void *context, uint32_t a, uint32_t b);

/* scratch: as many places as there are rows. */
void pio_order_sort(uint32_t *rows, uint32_t *scratch, size_t count, pio_order_compare compare,
                    const void *context);

#endif
