/*
 * Links of Linux: rtnetlink(7) to change them, netdevice(7) to look at them. All of it in the network namespace of the
 * calling thread, with async-signal-safe functions alone.
 */
#ifndef TUNGATE_LINK_LINUX_H
#define TUNGATE_LINK_LINUX_H

#include <stdbool.h>
#include <stdint.h>

#include "fault.h"

#define LINK_ADDRESSES_MAX 32

struct link_address {
  /** AF_INET or AF_INET6. */
  uint8_t family;
  /** Bits. */
  uint8_t prefix;
  /** 4 or 16 bytes, network order. */
  uint8_t bytes[16];
};

struct link {
  char name[16];
  /** Bytes; 0: leave it. */
  uint32_t mtu;
  /** Packets that the device holds for its reader; 0: leave it. */
  uint32_t queue_packets;
  bool up;
  uint32_t address_count;
  struct link_address addresses[LINK_ADDRESSES_MAX];
  struct fault fault;
};

/** Reads `198.18.0.1/15`; without a prefix it is the host's own (32, 128). false when it is no address. */
bool link_parse_address(const char *text, struct link_address *out);

/** A `struct link`: sets MTU, queue, addresses and state, in that order; stops at the first fault. */
void link_configure(void *link);

bool link_exists(const char *name);

/** Bytes, or 0 when there is no such device. */
int link_mtu(const char *name);

/**
 * Queues that are attached to a multi-queue tun, of all programs, those that are switched off included. 0 where there is no such
 * device, or the kernel (before 4.17) does not say.
 */
int link_queues(const char *name);

/** ARPHRD_… of if_arp.h, or -1 when there is no such device. */
int link_hardware_type(const char *name);

#endif
