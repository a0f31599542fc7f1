/*
 * Segments that lwIP may keep until those before them come. They leave the tun's slots, and their memory is counted, for all
 * flows together: TG_OUT_OF_ORDER_BUDGET, of which a flow may have a quarter of what is free. lwIP counts what a segment adds
 * to the stream; one that others overlap keeps its memory, so a flow is bounded by that too: TG_OUT_OF_ORDER_FLOW. What is
 * over a bound counts as lost, and the client sends it again.
 */
#include "tungate.h"

#include "lwip/mem.h"

struct piece {
  struct pbuf_custom custom;
  struct tg_flow *flow;
  u32_t size;
  u8_t bytes[];
};

static u32_t held;

static void piece_free(struct pbuf *p)
{
  struct piece *piece = (struct piece *)p;
  held -= piece->size;
  piece->flow->out_of_order -= piece->size;
  mem_free(piece);
}

/* A copy of p, which is freed. NULL: there is no room, and that is counted. */
struct pbuf *tg_out_of_order(struct tg_flow *flow, struct pbuf *p)
{
  u32_t size = sizeof(struct piece) + p->tot_len;
  struct piece *piece = NULL;
  if (held + size > TG_OUT_OF_ORDER_BUDGET || flow->out_of_order + size > TG_OUT_OF_ORDER_FLOW) TG_COUNT(drop_out_of_order);
  else if ((piece = mem_malloc(size)) == NULL) TG_COUNT(drop_memory);
  struct pbuf *copy = NULL;
  if (piece != NULL) {
    piece->flow = flow;
    piece->size = size;
    held += size;
    flow->out_of_order += size;
    pbuf_copy_partial(p, piece->bytes, p->tot_len, 0);
    piece->custom.custom_free_function = piece_free;
    copy = pbuf_alloced_custom(PBUF_RAW, p->tot_len, PBUF_REF, &piece->custom, piece->bytes, p->tot_len);
  }
  pbuf_free(p);
  return copy;
}

/* Bytes of payload that lwIP may keep for one flow: TCP_OOSEQ_BYTES_LIMIT. */
u32_t tg_out_of_order_limit(void)
{
  return LWIP_MIN((TG_OUT_OF_ORDER_BUDGET - held) / 4, TCP_OOSEQ_MAX_BYTES);
}

/* Memory of segments that wait for those before them, all flows. */
TG_EXPORT(tg_out_of_order_held) u32_t tg_out_of_order_held(void)
{
  return held;
}
