/* Calls of the C library that fail on demand, for LD_PRELOAD: the n-th write to a regular file, fsync, rename, opening of a
   file of data/, or large allocation of numpy or torch. Linux and glibc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, WRITE, FSYNC, RENAME, ALLOCATE, OPEN };
static const size_t LARGE = 1 << 16;

static int kind, code, for_good;
static long number, seen;

/* Let the n-th call of a kind fail, and where for_good all that follow. n = 0: only count. */
void faults_arm(int which, long n, int error, int all_that_follow)
{
    number = n, code = error, for_good = all_that_follow, seen = 0;
    kind = which;
}

/* No more faults; return the number of calls seen. */
long faults_disarm(void)
{
    kind = NONE;
    return seen;
}

static int fails(int which)
{
    if (kind != which)
        return 0;
    long now = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (!number || (for_good ? now < number : now != number))
        return 0;
    errno = code;
    return 1;
}

static int regular(int fd)
{
    struct stat status;
    return kind == WRITE && fd > 2 && !fstat(fd, &status) && S_ISREG(status.st_mode);
}

#define NEXT(name) static __typeof__(name) *next; if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { NEXT(write); return regular(fd) && fails(WRITE) ? -1 : next(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { NEXT(pwrite); return regular(fd) && fails(WRITE) ? -1 : next(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { NEXT(pwrite64); return regular(fd) && fails(WRITE) ? -1 : next(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *parts, int count) { NEXT(writev); return regular(fd) && fails(WRITE) ? -1 : next(fd, parts, count); }
int ftruncate(int fd, off_t size) { NEXT(ftruncate); return regular(fd) && fails(WRITE) ? -1 : next(fd, size); }
int ftruncate64(int fd, off64_t size) { NEXT(ftruncate64); return regular(fd) && fails(WRITE) ? -1 : next(fd, size); }
int fsync(int fd) { NEXT(fsync); return fails(FSYNC) ? -1 : next(fd); }
int fdatasync(int fd) { NEXT(fdatasync); return fails(FSYNC) ? -1 : next(fd); }
int rename(const char *from, const char *to) { NEXT(rename); return fails(RENAME) ? -1 : next(from, to); }
int renameat(int a, const char *from, int b, const char *to) { NEXT(renameat); return fails(RENAME) ? -1 : next(a, from, b, to); }

static int no_descriptor(const char *path) { return kind == OPEN && strstr(path, "data/") && fails(OPEN); }

#define MODE(flags) ({ va_list list; va_start(list, flags); int mode = flags & O_CREAT ? va_arg(list, int) : 0; va_end(list); mode; })

int open(const char *path, int flags, ...) { NEXT(open); int mode = MODE(flags); return no_descriptor(path) ? -1 : next(path, flags, mode); }
int open64(const char *path, int flags, ...) { NEXT(open64); int mode = MODE(flags); return no_descriptor(path) ? -1 : next(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { NEXT(openat); int mode = MODE(flags); return no_descriptor(path) ? -1 : next(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { NEXT(openat64); int mode = MODE(flags); return no_descriptor(path) ? -1 : next(at, path, flags, mode); }

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);

static int no_room(size_t size, void *caller)
{
    Dl_info info;
    if (kind != ALLOCATE || size < LARGE || !dladdr(caller, &info) || !info.dli_fname)
        return 0;
    const char *file = strrchr(info.dli_fname, '/') ? strrchr(info.dli_fname, '/') + 1 : info.dli_fname;
    return (!strncmp(file, "libc10", 6) || !strncmp(file, "libtorch", 8) || !strncmp(file, "_multiarray_umath", 17)) && fails(ALLOCATE);
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size) { return no_room(size, CALLER) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return no_room(count * size, CALLER) ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return no_room(size, CALLER) ? NULL : __libc_realloc(old, size); }
int posix_memalign(void **place, size_t alignment, size_t size)
{
    if (no_room(size, CALLER))
        return ENOMEM;
    void *memory = __libc_memalign(alignment, size);
    if (!memory)
        return ENOMEM;
    *place = memory;
    return 0;
}
