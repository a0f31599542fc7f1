/* The command line: one word for the run, then options. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "load.h"

static const struct {
	const char *name;
	void (*run)(const struct options *);
} runs[] = {
	{ "upload", run_upload },     { "download", run_download },     { "connect", run_connect },
	{ "idle", run_idle },         { "http", run_http },             { "first", run_first },
	{ "cut", run_cut },           { "merge", run_merge },
	{ "udp-echo", run_udp_echo }, { "udp-up", run_udp_up },         { "udp-down", run_udp_down },
	{ "paced-connect", run_paced_connect }, { "paced-dns", run_paced_dns },
	{ "udp-held", run_udp_held },
	{ "flood-syn", run_flood_syn }, { "flood-udp", run_flood_udp },
	{ "serve", run_servers },     { "socks-server", run_socks_server },
};

static struct in_addr parse_address(const char *text)
{
	struct in_addr address;

	if (inet_pton(AF_INET, text, &address) != 1)
		fail("%s: an IPv4 address is wanted", text);
	return address;
}

static struct sockaddr_in parse_endpoint(char *text)
{
	char *colon = strchr(text, ':');

	if (!colon)
		fail("%s: ADDRESS:PORT is wanted", text);
	*colon = 0;
	return endpoint(parse_address(text), atoi(colon + 1));
}

#define WANTED_FILES 65536

/* More than most limits: whoever has CAP_SYS_RESOURCE raises the hard one, others go up to it. */
static void raise_file_limit(void)
{
	struct rlimit limit = { .rlim_cur = WANTED_FILES, .rlim_max = WANTED_FILES };

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return;
	check(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

static void parse_options(struct options *options, int argc, char **argv)
{
	int letter;

	while ((letter = getopt(argc, argv, "d:a:s:q:k:n:t:b:r:i:")) != -1) {
		switch (letter) {
		case 'd':
			options->destination = parse_address(optarg);
			break;
		case 'a':
			if (options->address_count == MAX_ADDRESSES)
				fail("more than %d addresses", MAX_ADDRESSES);
			options->addresses[options->address_count++] = parse_address(optarg);
			break;
		case 's':
			options->socks = true;
			options->proxy = parse_endpoint(optarg);
			break;
		case 'q':
			options->control = parse_address(optarg);
			break;
		case 'k':
			options->parallel = atoi(optarg);
			break;
		case 'n':
			options->count = atoi(optarg);
			break;
		case 't':
			options->milliseconds = atoi(optarg);
			break;
		case 'b':
			options->payload_bytes = atoi(optarg);
			break;
		case 'r':
			options->megabits = atof(optarg);
			break;
		case 'i':
			options->device = optarg;
			break;
		default:
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct options options = { .parallel = 1 };

	signal(SIGPIPE, SIG_IGN);
	raise_file_limit();
	if (argc > 1)
		parse_options(&options, argc - 1, argv + 1);
	for (size_t index = 0; argc > 1 && index < sizeof(runs) / sizeof(runs[0]); index++) {
		if (strcmp(argv[1], runs[index].name) == 0) {
			runs[index].run(&options);
			return 0;
		}
	}
	fprintf(stderr, "usage: load RUN [-d destination] [-s proxy:port] [-q control] [-a address]... "
	                "[-k parallel] [-n count] [-t milliseconds] [-b bytes] [-r megabits, or a second] [-i device]\nruns:");
	for (size_t index = 0; index < sizeof(runs) / sizeof(runs[0]); index++)
		fprintf(stderr, " %s", runs[index].name);
	fprintf(stderr, "\n");
	return 2;
}
