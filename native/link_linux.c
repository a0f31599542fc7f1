#include "link_linux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ACK_TIMEOUT_SECONDS 2

struct request {
  struct nlmsghdr header;
  union {
    struct ifinfomsg link;
    struct ifaddrmsg address;
  };
  uint8_t attributes[128];
};

bool link_parse_address(const char *text, struct link_address *out) {
  char host[INET6_ADDRSTRLEN];
  const char *slash = strchr(text, '/');
  size_t length = slash == NULL ? strlen(text) : (size_t)(slash - text);
  if (length >= sizeof host) return false;
  memcpy(host, text, length);
  host[length] = 0;
  *out = (struct link_address){.family = strchr(host, ':') == NULL ? AF_INET : AF_INET6};
  if (inet_pton(out->family, host, out->bytes) != 1) return false;
  unsigned long limit = out->family == AF_INET ? 32 : 128;
  unsigned long prefix = limit;
  if (slash != NULL) {
    size_t digits = strspn(slash + 1, "0123456789");
    if (digits == 0 || digits > 3 || slash[1 + digits] != 0) return false;
    prefix = strtoul(slash + 1, NULL, 10);
  }
  out->prefix = (uint8_t)prefix;
  return prefix <= limit;
}

/** One SIOCGIF… of netdevice(7). Returns 0 or -1 with errno. */
static int ask(const char *name, unsigned long question, struct ifreq *answer) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  memset(answer, 0, sizeof *answer);
  memcpy(answer->ifr_name, name, strnlen(name, IFNAMSIZ - 1));
  int result = ioctl(fd, question, answer);
  int error = errno;
  close(fd);
  errno = error;
  return result;
}

static int link_index(const char *name) {
  struct ifreq answer;
  return ask(name, SIOCGIFINDEX, &answer) < 0 ? -1 : answer.ifr_ifindex;
}

bool link_exists(const char *name) { return strlen(name) < IFNAMSIZ && link_index(name) > 0; }

int link_mtu(const char *name) {
  struct ifreq answer;
  return ask(name, SIOCGIFMTU, &answer) < 0 ? 0 : answer.ifr_mtu;
}

int link_hardware_type(const char *name) {
  struct ifreq answer;
  return ask(name, SIOCGIFHWADDR, &answer) < 0 ? -1 : answer.ifr_hwaddr.sa_family;
}

/** The sizes of what is put into a request are all known: see `attributes`. */
static void put(struct request *request, uint16_t type, const void *data, uint16_t bytes) {
  struct rtattr *attribute = (struct rtattr *)(void *)((uint8_t *)request + NLMSG_ALIGN(request->header.nlmsg_len));
  attribute->rta_type = type;
  attribute->rta_len = (uint16_t)RTA_LENGTH(bytes);
  memcpy(RTA_DATA(attribute), data, bytes);
  request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

/** Sends the request, and waits for its answer in `answer`. Returns the answer's bytes, or a negative errno. */
static ssize_t converse(int fd, struct request *request, uint8_t *answer, size_t room) {
  request->header.nlmsg_seq++;
  if (send(fd, request, request->header.nlmsg_len, 0) < 0) return -errno;
  for (;;) {
    ssize_t length = recv(fd, answer, room, 0);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN ? -ETIMEDOUT : -errno;
    const struct nlmsghdr *header = (const void *)answer;
    if (!NLMSG_OK(header, (size_t)length) || header->nlmsg_seq != request->header.nlmsg_seq) continue;
    if (header->nlmsg_type != NLMSG_ERROR) return length;
    int error = ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
    return error < 0 ? error : 0;
  }
}

/** Sends the request and waits for its acknowledgement. Returns 0 or an errno. */
static int transact(int fd, struct request *request) {
  _Alignas(struct nlmsghdr) uint8_t answer[4096];
  ssize_t result = converse(fd, request, answer, sizeof answer);
  return result < 0 ? (int)-result : 0;
}

/** A socket for questions and changes, with a bound on the wait. -1 with errno. */
static int open_netlink(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  struct timeval limit = {.tv_sec = ACK_TIMEOUT_SECONDS};
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0) return fd;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

/** The attribute of that type among `length` bytes of them, or NULL. */
static const struct rtattr *find(const struct rtattr *attribute, int length, unsigned type) {
  for (; RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length))
    if ((attribute->rta_type & NLA_TYPE_MASK) == type) return attribute;
  return NULL;
}

/** One that was found, but for its header. */
static const struct rtattr *find_in(const struct rtattr *nest, unsigned type) {
  return nest == NULL ? NULL : find(RTA_DATA(nest), (int)RTA_PAYLOAD(nest), type);
}

int link_queues(const char *name) {
  _Alignas(struct nlmsghdr) uint8_t answer[16384];
  struct request request = {
      .header = {.nlmsg_len = NLMSG_LENGTH(sizeof request.link), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST},
      .link = {.ifi_family = AF_UNSPEC, .ifi_index = link_index(name)},
  };
  int fd = request.link.ifi_index > 0 ? open_netlink() : -1;
  if (fd < 0) return 0;
  ssize_t length = converse(fd, &request, answer, sizeof answer);
  close(fd);
  const struct nlmsghdr *header = (const void *)answer;
  if (length <= 0 || header->nlmsg_type != RTM_NEWLINK) return 0;
  const struct ifinfomsg *link = NLMSG_DATA(header);
  const struct rtattr *information = find(IFLA_RTA(link), (int)IFLA_PAYLOAD(header), IFLA_LINKINFO);
  const struct rtattr *data = find_in(information, IFLA_INFO_DATA);
  uint32_t queues = 0;
  for (unsigned type = IFLA_TUN_NUM_QUEUES; type <= IFLA_TUN_NUM_DISABLED_QUEUES; type++) {
    const struct rtattr *count = find_in(data, type);
    if (count != NULL && RTA_PAYLOAD(count) == sizeof queues) queues += *(const uint32_t *)RTA_DATA(count);
  }
  return (int)queues;
}

static const char *link_advice(int error) {
  switch (error) {
    case EPERM:
      return "Changing a device needs CAP_NET_ADMIN in its network namespace: run with it, or configure the device "
             "beforehand.";
    case EINVAL:
    case ERANGE:
      return "The kernel takes an MTU of 68 to 65535 bytes, and of 1280 at least for IPv6.";
    case ENODEV:
      return "There is no such device.";
    default:
      return "";
  }
}

static const char *address_advice(int error, uint8_t family) {
  if (error == EPERM) return link_advice(error);
  if (family != AF_INET6) return "";
  return "IPv6 may be switched off on this device (net.ipv6.conf.*.disable_ipv6), or its MTU be under 1280 bytes.";
}

/** MTU and queue when they are not 0, the state when `state` is set. */
static int change_link(int fd, int index, uint32_t mtu, uint32_t queue_packets, bool state, bool up) {
  struct request request = {
      .header = {.nlmsg_len = NLMSG_LENGTH(sizeof request.link),
                 .nlmsg_type = RTM_NEWLINK,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
      .link = {.ifi_family = AF_UNSPEC, .ifi_index = index},
  };
  if (mtu != 0) put(&request, IFLA_MTU, &mtu, sizeof mtu);
  if (queue_packets != 0) put(&request, IFLA_TXQLEN, &queue_packets, sizeof queue_packets);
  if (state) {
    request.link.ifi_change = IFF_UP;
    request.link.ifi_flags = up ? IFF_UP : 0;
  }
  return transact(fd, &request);
}

/** IPv6 without duplicate address detection (RFC 4862 §5.4): nobody else is on a tun, and the address serves at once. */
static int add_address(int fd, int index, const struct link_address *address) {
  uint16_t bytes = address->family == AF_INET ? 4 : 16;
  struct request request = {
      .header = {.nlmsg_len = NLMSG_LENGTH(sizeof request.address),
                 .nlmsg_type = RTM_NEWADDR,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE},
      .address = {.ifa_family = address->family, .ifa_prefixlen = address->prefix, .ifa_index = (uint32_t)index},
  };
  put(&request, IFA_LOCAL, address->bytes, bytes);
  put(&request, IFA_ADDRESS, address->bytes, bytes);
  uint32_t flags = IFA_F_NODAD;
  if (address->family == AF_INET6) put(&request, IFA_FLAGS, &flags, sizeof flags);
  return transact(fd, &request);
}

static void configure(struct link *link, int fd, int index) {
  static const char newlink[] = "rtnetlink(RTM_NEWLINK)";
  int error = 0;
  if (link->mtu != 0 || link->queue_packets != 0)
    error = change_link(fd, index, link->mtu, link->queue_packets, false, false);
  if (error != 0) {
    fault_set(&link->fault, error, newlink, link_advice(error));
    return;
  }
  for (uint32_t at = 0; at < link->address_count; at++) {
    error = add_address(fd, index, &link->addresses[at]);
    if (error == 0) continue;
    fault_set(&link->fault, error, "rtnetlink(RTM_NEWADDR)", address_advice(error, link->addresses[at].family));
    return;
  }
  error = change_link(fd, index, 0, 0, true, link->up);
  if (error != 0) fault_set(&link->fault, error, newlink, link_advice(error));
}

void link_configure(void *argument) {
  struct link *link = argument;
  link->fault = (struct fault){0};
  int index = link_index(link->name);
  if (index < 0) {
    fault_set(&link->fault, errno, "ioctl(SIOCGIFINDEX)", link_advice(errno));
    return;
  }
  int fd = open_netlink();
  if (fd < 0) {
    fault_set(&link->fault, errno, "socket(AF_NETLINK)", "");
    return;
  }
  configure(link, fd, index);
  close(fd);
}
