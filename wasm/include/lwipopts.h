/* Why lwIP is built as it is: one reason a line. Memory bounds are explained in ARCHITECTURE.md. */
#ifndef TG_LWIPOPTS_H
#define TG_LWIPOPTS_H

/* One thread, no operating system; the host owns the clock (stack.c: tg_tick). */
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_TIMERS 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0

/* What is not needed is not compiled: nothing here resolves, joins groups, or speaks Ethernet. */
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_IGMP 0
#define LWIP_DNS 0
#define LWIP_DHCP 0
#define LWIP_AUTOIP 0
#define LWIP_ACD 0
#define LWIP_STATS 0
#define LWIP_NETIF_LOOPBACK 0
#define LWIP_HAVE_LOOPIF 0
#define LWIP_SINGLE_NETIF 1

#define LWIP_IPV4 1
#define LWIP_IPV6 1
/* Neighbours, routers and groups mean nothing on a layer 3 device, and must not be believed. */
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_SCOPES 0
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_NUM_ADDRESSES 1
#define LWIP_ND6_QUEUEING 0
#define LWIP_IPV6_FORWARD 0
/* One MTU for both families, and no router that changes it. */
#define LWIP_ND6_ALLOW_RA_UPDATES 0
#define LWIP_ICMP 1
#define LWIP_ICMP6 1

#define LWIP_RAW 0
#define LWIP_UDP 1
#define LWIP_TCP 1

/* malloc, so that an idle gateway is small; what may be held is counted and bounded by the glue. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define PBUF_POOL_SIZE 0
#define PBUF_POOL_BUFSIZE 256
#define LWIP_SUPPORT_CUSTOM_PBUF 1
/* A datagram's payload is sent before its memory is used again (egress is flushed within the call's turn). */
#define PBUF_NEEDS_COPY(p) 0

/* A segment may be a 64 KB super-segment, which the kernel cuts (vnet_hdr). 65,495 = 65,535 - 40. */
#define TCP_MSS 65495
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1
/* Streams towards clients do not pass through lwIP's queues (sender.c), so what bounds those stays at its defaults. */
#define TCP_OVERSIZE 0
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 5
#define TCP_WND (1024 * 1024)
#define TCP_WND_UPDATE_THRESHOLD (TCP_WND / 4)
#define LWIP_TCP_SACK_OUT 1
#define TCP_QUEUE_OOSEQ 1
/* One flow's bound, of bytes of its stream; with many flows out of order it is less (out_of_order.c). */
#define TCP_OOSEQ_MAX_BYTES (1024 * 1024)
unsigned int tg_out_of_order_limit(void);
#define TCP_OOSEQ_BYTES_LIMIT(pcb) tg_out_of_order_limit()
#define TCP_OOSEQ_MAX_PBUFS 1024
/* Fast timer 32 ms: delayed ACKs are not later than 40 on a busy host (RFC 1122 allows 500). Slow timer 64 ms. */
#define TCP_TMR_INTERVAL 32
/* RFC 6298: 1 s. */
#define LWIP_TCP_RTO_TIME 1000
/* TIME_WAIT lasts twice this; a tun loses and reorders nothing for seconds. */
#define TCP_MSL 500
#define LWIP_TCP_KEEPALIVE 1
#define LWIP_TCP_PCB_NUM_EXT_ARGS 1
#define TCP_LISTEN_BACKLOG 0

/* Ours is stricter (fragments.c). */
#define IP_REASSEMBLY 0
#define LWIP_IPV6_REASS 0
#define IP_FRAG 1
#define LWIP_IPV6_FRAG 1

/* The guard verifies what the kernel has not vouched for (guard.c); what goes out is decided per packet (egress.c). */
#define CHECKSUM_CHECK_TCP 0
#define CHECKSUM_CHECK_UDP 0
#define CHECKSUM_CHECK_ICMP 0
#define CHECKSUM_CHECK_ICMP6 0
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1
unsigned short tg_checksum(const void *data, int length);
#define LWIP_CHKSUM tg_checksum

#define LWIP_HOOK_FILENAME "hooks.h"

#endif
