#include "netns_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 5000

/** Descriptors of the namespaces to join; -1: it is the one we are in. */
struct namespaces {
  int user;
  int net;
};

static const char *namespace_advice(int error) {
  switch (error) {
    case ESRCH:
      return "There is no such process.";
    case EACCES:
    case EPERM:
      return "The namespaces of that process are not this user's: run as root, or as the user that made them.";
    default:
      return "";
  }
}

/** Leaves a descriptor in `out`, or -1 when the namespace is our own. Returns 0 or an errno. */
static int open_namespace(pid_t pid, const char *kind, int *out) {
  char path[64];
  struct stat own, other;
  snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
  if (stat(path, &own) < 0) return errno;
  snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, kind);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? ESRCH : errno;
  if (fstat(fd, &other) < 0 || (own.st_ino == other.st_ino && own.st_dev == other.st_dev)) {
    close(fd);
    fd = -1;
  }
  *out = fd;
  return 0;
}

static void close_namespaces(struct namespaces *spaces) {
  if (spaces->user >= 0) close(spaces->user);
  if (spaces->net >= 0) close(spaces->net);
}

/** Room for one descriptor, aligned as CMSG_FIRSTHDR wants it. */
union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

/** A message is: errno of setns() (0: the task has run), then the state. */
static void child(int channel, const struct namespaces *spaces, void (*task)(void *), void *state, size_t bytes,
                  int *descriptor) {
  int error = 0;
  if (spaces->user >= 0 && setns(spaces->user, CLONE_NEWUSER) < 0) error = errno;
  if (error == 0 && spaces->net >= 0 && setns(spaces->net, CLONE_NEWNET) < 0) error = errno;
  if (error == 0) task(state);
  struct iovec parts[] = {{&error, sizeof error}, {state, bytes}};
  union control control = {0};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  if (error == 0 && descriptor != NULL && *descriptor >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), descriptor, sizeof(int));
  }
  _exit(sendmsg(channel, &message, MSG_NOSIGNAL) < 0 ? 1 : 0);
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/** true when the message can be read, or the child is gone. */
static bool await_message(int channel) {
  long deadline = now_ms() + TIMEOUT_MS;
  for (;;) {
    struct pollfd waiting = {.fd = channel, .events = POLLIN};
    long left = deadline - now_ms();
    int count = left > 0 ? poll(&waiting, 1, (int)left) : 0;
    if (count >= 0 || errno != EINTR) return count > 0;
  }
}

static int receive(int channel, void *state, size_t bytes, int *descriptor, struct fault *fault) {
  int error = 0;
  struct iovec parts[] = {{&error, sizeof error}, {state, bytes}};
  union control control = {0};
  struct msghdr message = {
      .msg_iov = parts, .msg_iovlen = 2, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  if (!await_message(channel)) return fault_set(fault, ETIMEDOUT, "setns", "The forked child gave no answer in time.");
  ssize_t length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
  if (length < 0) return fault_set(fault, errno, "recvmsg(SCM_RIGHTS)", "");
  if (length == 0) return fault_set(fault, ECHILD, "fork", "The forked child ended without an answer.");
  if (error != 0) return fault_set(fault, error, "setns", namespace_advice(error));
  if (descriptor == NULL) return 0;
  const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
    memcpy(descriptor, CMSG_DATA(header), sizeof(int));
  } else if (*descriptor >= 0) {
    *descriptor = -1;
    return fault_set(fault, EMFILE, "recvmsg(SCM_RIGHTS)", "This process has too many files open.");
  }
  return 0;
}

/**
 * All signals are blocked in the child: the handlers that it inherits write into a pipe it shares with its parent.
 */
static pid_t fork_blocked(void) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_t pid = fork();
  int error = errno;
  if (pid != 0) pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = error;
  return pid;
}

int netns_run(pid_t pid, void (*task)(void *), void *state, size_t bytes, int *descriptor, struct fault *fault) {
  struct namespaces spaces = {-1, -1};
  int error = open_namespace(pid, "user", &spaces.user);
  if (error == 0) error = open_namespace(pid, "net", &spaces.net);
  if (error != 0) {
    close_namespaces(&spaces);
    return fault_set(fault, error, "open(/proc/PID/ns)", namespace_advice(error));
  }
  if (spaces.user < 0 && spaces.net < 0) {
    task(state);
    return 0;
  }
  int channel[2];
  int result = -1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
    fault_set(fault, errno, "socketpair", "");
  } else {
    pid_t forked = fork_blocked();
    if (forked == 0) child(channel[1], &spaces, task, state, bytes, descriptor);
    error = errno;
    close(channel[1]);
    if (forked < 0) {
      fault_set(fault, error, "fork", "");
    } else {
      result = receive(channel[0], state, bytes, descriptor, fault);
      if (result < 0) kill(forked, SIGKILL);
      while (waitpid(forked, NULL, 0) < 0 && errno == EINTR) continue;
    }
    close(channel[0]);
  }
  close_namespaces(&spaces);
  return result;
}
