#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALL_BYTES 64
#define HOST_BYTES 65

/* The function's name in "api->ncclAllReduce(from, to, n)". */
static void name_of(char name[CALL_BYTES], const char *call)
{
	size_t end = strcspn(call, "("), begin = end;
	while (begin > 0 && !strchr("->.&* ", call[begin - 1]))
		begin--;
	snprintf(name, CALL_BYTES, "%.*s", (int)(end - begin), call + begin);
}

int pio_check_fail(pio_err *err, int result, pio_check_words *words, const char *call,
                   const char *file, int line)
{
	char name[CALL_BYTES], host[HOST_BYTES] = "";
	const char *text = words(result), *slash = strrchr(file, '/'), *rank = getenv("RANK");
	(void)gethostname(host, sizeof host - 1);
	name_of(name, call);
	return pio_fail_at(err, PIO_EIO, 0, file, line, "%s: %s (%d); %s, pid %ld, rank %s, %s:%d", name,
	                   text ? text : "no words for it", result, host, (long)getpid(),
	                   rank ? rank : "0", slash ? slash + 1 : file, line);
}
