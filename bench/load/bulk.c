/*
 * Bulk over TCP: `parallel` streams for `milliseconds`. The time counts until the last byte is known to have arrived,
 * and both ends must agree on the number of bytes.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

static const struct options *bulk;
static pthread_barrier_t all_open;

/* Upload: bytes, then FIN; the sink answers with its count. */
static void *upload_stream(void *total)
{
	size_t write_bytes = bulk->payload_bytes ? (size_t)bulk->payload_bytes : BULK_BYTES;
	char *bytes = calloc(1, write_bytes);
	int fd = open_stream(bulk, PORT_SINK);
	uint64_t sent = 0;
	uint64_t arrived;
	uint64_t deadline_ns;

	if (!bytes)
		fail("out of memory");
	pthread_barrier_wait(&all_open);
	deadline_ns = now_ns() + (uint64_t)bulk->milliseconds * 1000000u;
	while (now_ns() < deadline_ns)
		sent += (uint64_t)check((int)send(fd, bytes, write_bytes, 0), "send");
	check(shutdown(fd, SHUT_WR), "shutdown");
	receive_whole(fd, &arrived, sizeof(arrived));
	if (arrived != sent)
		fail("%llu bytes sent, %llu arrived", (unsigned long long)sent, (unsigned long long)arrived);
	close(fd);
	free(bytes);
	*(uint64_t *)total = sent;
	return NULL;
}

/* Download: the time is the request; the source ends with its count, 8 bytes, and FIN. */
static void *download_stream(void *total)
{
	char *buffer = malloc(BULK_BYTES + sizeof(uint64_t));
	int fd = open_stream(bulk, PORT_SOURCE);
	uint32_t milliseconds = (uint32_t)bulk->milliseconds;
	uint64_t received = 0;
	uint64_t sent;
	int got;

	if (!buffer)
		fail("out of memory");
	pthread_barrier_wait(&all_open);
	send_whole(fd, &milliseconds, sizeof(milliseconds));
	/* The last 8 bytes so far stay in front of the next ones. */
	memset(buffer, 0, sizeof(uint64_t));
	while ((got = check((int)recv(fd, buffer + sizeof(uint64_t), BULK_BYTES, 0), "recv")) > 0) {
		received += (uint64_t)got;
		memmove(buffer, buffer + got, sizeof(uint64_t));
	}
	memcpy(&sent, buffer, sizeof(sent));
	if (received != sent + sizeof(sent))
		fail("the stream ended after %llu bytes without its count", (unsigned long long)received);
	close(fd);
	free(buffer);
	*(uint64_t *)total = sent;
	return NULL;
}

static void run_streams(const struct options *options, void *(*stream)(void *))
{
	pthread_t *threads = calloc((size_t)options->parallel, sizeof(*threads));
	uint64_t *totals = calloc((size_t)options->parallel, sizeof(*totals));
	uint64_t bytes = 0;
	uint64_t start;

	if (!threads || !totals)
		fail("out of memory");
	bulk = options;
	pthread_barrier_init(&all_open, NULL, (unsigned)options->parallel + 1);
	for (int index = 0; index < options->parallel; index++)
		if (pthread_create(&threads[index], NULL, stream, &totals[index]) != 0)
			fail("no thread could be started");
	pthread_barrier_wait(&all_open);
	start = now_ns();
	for (int index = 0; index < options->parallel; index++) {
		pthread_join(threads[index], NULL);
		bytes += totals[index];
	}
	printf("{\"bytes\":%llu,\"seconds\":%.6f}\n", (unsigned long long)bytes, (double)(now_ns() - start) / 1e9);
}

void run_upload(const struct options *options)
{
	run_streams(options, upload_stream);
}

void run_download(const struct options *options)
{
	run_streams(options, download_stream);
}
