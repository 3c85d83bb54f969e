#include "launch/token.h"

#include <errno.h>
#include <sys/random.h>

#include "base/hex.h"

int pio_token_new(char token[PIO_TOKEN_CHARS + 1], pio_err *err)
{
	unsigned char bytes[PIO_TOKEN_CHARS / 2];
	size_t have = 0;
	while (have < sizeof bytes) {
		ssize_t n = getrandom(bytes + have, sizeof bytes - have, 0);
		if (n < 0 && errno != EINTR)
			return pio_fail_errno(err, errno, "random bytes for a token");
		have += n > 0 ? (size_t)n : 0;
	}
	pio_hex_format(bytes, sizeof bytes, token);
	return 0;
}
