/*
 * Fragments take lwIP's own road (ip4_input, ip6_input), because its reassembly is there; the raw callbacks meet the
 * whole packet behind it and lead it back to ours. lwIP accepts a packet that is addressed to its interface, so the
 * interface is given the packet's destination first.
 */
#include "tungate.h"

#include "lwip/icmp6.h"
#include "lwip/ip.h"
#include "lwip/ip4.h"
#include "lwip/ip6.h"
#include "lwip/raw.h"

int tg_fragment_seen; /* reassembly timers must run (stack.c) */

static u8_t reassembled(void *arg, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from)
{
  (void)pcb;
  (void)from;
  int tcp = arg != NULL;
  pbuf_remove_header(p, ip_current_header_tot_len());
  /* In one piece: headers are then readable, and the slots of the fragments are free again. */
  struct pbuf *whole = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
  pbuf_free(p);
  if (whole == NULL) TG_COUNT(drop_memory);
  else if (tcp) tg_tcp_packet(whole, 0);
  else tg_udp_packet(whole, 0, 0);
  return 1;
}

/* RFC 6980: neighbour and router messages are never fragmented; of ICMPv6 only an echo request goes on to lwIP. */
static u8_t reassembled_icmp6(void *arg, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from)
{
  (void)arg;
  (void)pcb;
  (void)from;
  u8_t type = pbuf_get_at(p, ip_current_header_tot_len());
  if (tg_config.echo && type == ICMP6_TYPE_EREQ) return 0;
  TG_COUNT(drop_icmp);
  pbuf_free(p);
  return 1;
}

void tg_fragments_init(void)
{
  static int tcp = 1;
  raw_recv(raw_new_ip_type(IPADDR_TYPE_ANY, IP_PROTO_TCP), reassembled, &tcp);
  raw_recv(raw_new_ip_type(IPADDR_TYPE_ANY, IP_PROTO_UDP), reassembled, NULL);
  raw_recv(raw_new_ip_type(IPADDR_TYPE_ANY, IP6_NEXTH_ICMP6), reassembled_icmp6, NULL);
}

/* lwIP keeps fragments for seconds: they must not keep the tun's slots. */
static struct pbuf *out_of_slot(struct pbuf *p)
{
  struct pbuf *copy = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
  pbuf_free(p);
  if (copy == NULL) TG_COUNT(drop_memory);
  tg_fragment_seen = 1;
  return copy;
}

/* An echo reply is as long as its request and may have to be fragmented; all else that lwIP answers here is short. */
void tg_fragment4(struct pbuf *p)
{
  if ((p = out_of_slot(p)) == NULL) return;
  tg_netif.ip_addr.u_addr.ip4.addr = ((const struct ip_hdr *)p->payload)->dest.addr;
  if (IPH_PROTO((const struct ip_hdr *)p->payload) == IP_PROTO_ICMP) tg_mtu_device();
  ip4_input(p, &tg_netif);
  tg_mtu_super();
}

void tg_fragment6(struct pbuf *p, u32_t protocol)
{
  if ((p = out_of_slot(p)) == NULL) return;
  memcpy(tg_netif.ip6_addr[0].u_addr.ip6.addr, &((const struct ip6_hdr *)p->payload)->dest, 16);
  if (protocol == IP6_NEXTH_ICMP6) tg_mtu_device();
  ip6_input(p, &tg_netif);
  tg_mtu_super();
}
