/*
 * A veth hands on whole super-packets, which no wire does. `cut -i DEVICE` makes one end send what a wire would carry,
 * packets of the MTU; `merge -i DEVICE` makes the other end put them together as the driver of a network card does (GRO).
 */
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "load.h"

static void set_feature(const char *device, uint32_t command, uint32_t value, const char *what)
{
	int fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	struct ethtool_value order = { .cmd = command, .data = value };
	struct ifreq request = { .ifr_data = (char *)&order };

	if (!device)
		fail("which device? -i is missing");
	strncpy(request.ifr_name, device, IFNAMSIZ - 1);
	check(ioctl(fd, SIOCETHTOOL, &request), what);
	close(fd);
}

void run_cut(const struct options *options)
{
	set_feature(options->device, ETHTOOL_STSO, 0, "ETHTOOL_STSO");
	set_feature(options->device, ETHTOOL_SGSO, 0, "ETHTOOL_SGSO");
}

void run_merge(const struct options *options)
{
	set_feature(options->device, ETHTOOL_SGRO, 1, "ETHTOOL_SGRO");
}
