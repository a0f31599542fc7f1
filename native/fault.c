#include "fault.h"

#include <errno.h>
#include <stddef.h>

int fault_set(struct fault *fault, int error, const char *syscall, const char *advice) {
  *fault = (struct fault){.error = error, .syscall = syscall, .advice = advice};
  return -1;
}

#define NAME(code) \
  case code:       \
    return #code

/* An own table: strerrorname_np() is glibc 2.32 and later only. */
const char *errno_name(int error) {
  switch (error < 0 ? -(long)error : error) {
    NAME(E2BIG);
    NAME(EACCES);
    NAME(EADDRINUSE);
    NAME(EADDRNOTAVAIL);
    NAME(EAFNOSUPPORT);
    NAME(EAGAIN);
    NAME(EALREADY);
    NAME(EBADF);
    NAME(EBADFD);
    NAME(EBADMSG);
    NAME(EBUSY);
    NAME(ECANCELED);
    NAME(ECHILD);
    NAME(ECONNABORTED);
    NAME(ECONNREFUSED);
    NAME(ECONNRESET);
    NAME(EDESTADDRREQ);
    NAME(EEXIST);
    NAME(EFAULT);
    NAME(EFBIG);
    NAME(EHOSTDOWN);
    NAME(EHOSTUNREACH);
    NAME(EINPROGRESS);
    NAME(EINTR);
    NAME(EINVAL);
    NAME(EIO);
    NAME(EISCONN);
    NAME(EISDIR);
    NAME(ELOOP);
    NAME(EMFILE);
    NAME(EMSGSIZE);
    NAME(ENAMETOOLONG);
    NAME(ENETDOWN);
    NAME(ENETRESET);
    NAME(ENETUNREACH);
    NAME(ENFILE);
    NAME(ENOBUFS);
    NAME(ENODEV);
    NAME(ENOENT);
    NAME(ENOMEM);
    NAME(ENOPROTOOPT);
    NAME(ENOSPC);
    NAME(ENOSYS);
    NAME(ENOTCONN);
    NAME(ENOTDIR);
    NAME(ENOTSOCK);
    NAME(ENOTTY);
    NAME(ENXIO);
    NAME(EOPNOTSUPP);
    NAME(EOVERFLOW);
    NAME(EPERM);
    NAME(EPFNOSUPPORT);
    NAME(EPIPE);
    NAME(EPROTO);
    NAME(EPROTONOSUPPORT);
    NAME(EPROTOTYPE);
    NAME(ERANGE);
    NAME(EROFS);
    NAME(ESHUTDOWN);
    NAME(ESOCKTNOSUPPORT);
    NAME(ESRCH);
    NAME(ETIMEDOUT);
    NAME(ETOOMANYREFS);
    NAME(EUSERS);
    default:
      return NULL;
  }
}
