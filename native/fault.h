/*
 * What went wrong, where, and what the user can do about it.
 *
 * The strings are literals: a fault is copied freely, also between a process and its forked child.
 */
#ifndef TUNGATE_FAULT_H
#define TUNGATE_FAULT_H

struct fault {
  /** Positive errno; 0: no fault. */
  int error;
  /** The call that failed, e.g. "ioctl(TUNSETIFF)". */
  const char *syscall;
  /** One sentence, or "" when the errno says it all. */
  const char *advice;
};

/** Fills `fault` and returns -1, so that a caller can `return fault_set(...)`. */
int fault_set(struct fault *fault, int error, const char *syscall, const char *advice);

/** "ECONNREFUSED" for ECONNREFUSED or -ECONNREFUSED; NULL for a number that has no name here. */
const char *errno_name(int error);

#endif
