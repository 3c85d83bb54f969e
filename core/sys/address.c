#include "sys/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANY_PORT "9"   /* of a datagram socket that never sends */

static bool format(char address[PIO_ADDRESS_BYTES], const struct sockaddr *name)
{
	socklen_t length = name->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	return getnameinfo(name, length, address, PIO_ADDRESS_BYTES, NULL, 0, NI_NUMERICHOST) == 0;
}

static bool is_internet(const struct ifaddrs *entry)
{
	return entry->ifa_addr && (entry->ifa_flags & IFF_UP) &&
	       (entry->ifa_addr->sa_family == AF_INET || entry->ifa_addr->sa_family == AF_INET6);
}

bool pio_address_is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

int pio_address_towards(char address[PIO_ADDRESS_BYTES], const char *host, pio_err *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM }, *list = NULL;
	struct sockaddr_storage name;
	int rc = -1, sys_errno = EHOSTUNREACH, e = getaddrinfo(host, ANY_PORT, &hints, &list);
	if (e)
		return pio_fail(err, PIO_ENOTFOUND, "address of host \"%s\": %s", host, gai_strerror(e));
	for (struct addrinfo *a = list; a && rc; a = a->ai_next) {
		socklen_t length = sizeof name;
		int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0 &&
		    getsockname(fd, (struct sockaddr *)&name, &length) == 0 &&
		    format(address, (struct sockaddr *)&name))
			rc = 0;
		else
			sys_errno = errno;
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(list);
	return rc ? pio_fail_errno(err, sys_errno, "route to host \"%s\"", host) : 0;
}

/* "10.1.0.0/16" into its bytes; false: no range. */
static bool parse_range(const char *text, int *family, unsigned char bytes[16], int *bits)
{
	char base[PIO_ADDRESS_BYTES], *end;
	const char *slash = strchr(text, '/');
	if (!slash || (size_t)(slash - text) >= sizeof base)
		return false;
	memcpy(base, text, (size_t)(slash - text));
	base[slash - text] = 0;
	*family = strchr(base, ':') ? AF_INET6 : AF_INET;
	*bits = (int)strtol(slash + 1, &end, 10);
	return slash[1] && !*end && inet_pton(*family, base, bytes) == 1 && *bits >= 0 &&
	       *bits <= (*family == AF_INET ? 32 : 128);
}

static bool is_within(const struct sockaddr *name, int family, const unsigned char bytes[16], int bits)
{
	const void *own = family == AF_INET ? (const void *)&((const struct sockaddr_in *)name)->sin_addr
	                                    : (const void *)&((const struct sockaddr_in6 *)name)->sin6_addr;
	const unsigned char *at = own;
	if (name->sa_family != family || memcmp(at, bytes, (size_t)bits / 8) != 0)
		return false;
	int rest = bits % 8, mask = 0xff << (8 - rest) & 0xff;
	return rest == 0 || (at[bits / 8] & mask) == (bytes[bits / 8] & mask);
}

static int fail_list(const struct ifaddrs *list, const char *interface, pio_err *err)
{
	pio_str there = PIO_STR_INIT;
	char address[PIO_ADDRESS_BYTES];
	for (const struct ifaddrs *entry = list; entry; entry = entry->ifa_next)
		if (is_internet(entry) && format(address, entry->ifa_addr))
			pio_str_printf(&there, "%s%s %s", there.len ? ", " : "", entry->ifa_name, address);
	int rc = pio_fail(err, PIO_ENOTFOUND, "there is no network interface or range \"%s\" on this machine;"
	                  " there are: %s", interface, there.data);
	pio_str_fini(&there);
	return rc;
}

int pio_address_of_interface(char address[PIO_ADDRESS_BYTES], const char *interface, pio_err *err)
{
	static const int families[] = { AF_INET, AF_INET6 };
	struct ifaddrs *list = NULL;
	unsigned char bytes[16];
	int family = AF_UNSPEC, bits = 0, rc = -1;
	bool is_range = parse_range(interface, &family, bytes, &bits);
	if (!is_range && strchr(interface, '/'))
		return pio_fail(err, PIO_EINVAL, "\"%s\" is no range of addresses: expected one as \"10.1.0.0/16\"",
		                interface);
	if (getifaddrs(&list) != 0)
		return pio_fail_errno(err, errno, "list the network interfaces");
	for (int f = 0; f < 2 && rc; f++)
		for (const struct ifaddrs *entry = list; entry && rc; entry = entry->ifa_next) {
			if (!is_internet(entry) || entry->ifa_addr->sa_family != families[f])
				continue;
			if (is_range ? is_within(entry->ifa_addr, family, bytes, bits)
			             : strcmp(entry->ifa_name, interface) == 0)
				rc = format(address, entry->ifa_addr) ? 0 : -1;
		}
	if (rc)
		rc = fail_list(list, interface, err);
	freeifaddrs(list);
	return rc;
}

bool pio_address_interface(pio_str *name, const char *address)
{
	struct ifaddrs *list = NULL;
	char own[PIO_ADDRESS_BYTES];
	bool found = false;
	if (getifaddrs(&list) != 0)
		return false;
	for (const struct ifaddrs *entry = list; entry && !found; entry = entry->ifa_next)
		if (is_internet(entry) && format(own, entry->ifa_addr) && strcmp(own, address) == 0) {
			pio_str_puts(name, entry->ifa_name);
			found = true;
		}
	freeifaddrs(list);
	return found;
}
