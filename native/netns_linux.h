/*
 * Work in the user and network namespace of another process (namespaces(7)).
 *
 * Only a process with a single thread can join a user namespace (setns(2)), and this one has many: so a child is forked
 * that joins, does the work, hands the outcome back, and ends.
 */
#ifndef TUNGATE_NETNS_LINUX_H
#define TUNGATE_NETNS_LINUX_H

#include <stddef.h>
#include <sys/types.h>

#include "fault.h"

/**
 * Runs `task(state)` inside the namespaces of `pid`, then copies the `bytes` of `state` back; a descriptor that the task
 * left in `*descriptor` (a member of `state`; NULL: none) becomes one of this process, O_CLOEXEC.
 * Where both namespaces are our own the task is simply called.
 *
 * The task may call only async-signal-safe functions, and `state` may point only at what was there before.
 * Returns 0, whatever the task found, or -1 with `fault`. Blocks for 5 seconds at most.
 */
int netns_run(pid_t pid, void (*task)(void *state), void *state, size_t bytes, int *descriptor, struct fault *fault);

#endif
