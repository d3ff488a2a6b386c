/* A kernel's answers for an I2C bus with a PCA9685 and for a camera, made from the kernel's own headers and
 * put before the C library's (LD_PRELOAD). A device is a plain file with "i2c" or "video" in its name.
 * The bus's file is what the chip has: 256 registers, the pointer, and what a test sets (1: no answer,
 * 2: reset it). The camera's file is its buffers; CAMERA says what it gives (YUYV, MJPG, GREY), CAMERA_JPEG
 * is a picture; without its file it is unplugged. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <linux/i2c-dev.h>
#include <linux/videodev2.h>

/* a row of YUYV is longer than its 160 pixels */
enum { CHIP = 0x40, SIZE = 1 << 17, BUFFERS = 4, ROW = 352 };

static unsigned char *chip, *frames;
static int bus = -1, address = -1, queued[BUFFERS], count, streams;
static unsigned number, next;
static struct v4l2_pix_format pix;
static struct timespec due;

static int fail(int why) { errno = why; return -1; }
static ssize_t (*libc_write)(int, const void *, size_t), (*libc_read)(int, void *, size_t);

static void path_of(int fd, char *path) {
  char link[32];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, 511);
  path[n > 0 ? n : 0] = 0;
}

static int i2c(int fd, unsigned long request, unsigned long value) {
  if (request == I2C_TIMEOUT) return value == 1 ? 0 : fail(EINVAL);   /* 10 ms */
  if (request == I2C_RETRIES) return 0;
  if (request != I2C_SLAVE || value > 0x7f) return fail(EINVAL);
  if (chip == NULL) chip = mmap(NULL, 512, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  bus = fd, address = (int)value;
  return 0;
}

static int answers(void) {
  if (chip[257] == 2) {   /* its power was away */
    memset(chip, 0, 258);
    chip[0] = 0x11, chip[1] = 4, chip[0xfe] = 30;
    for (int n = 0; n < 16; n++) chip[9 + 4*n] = 0x10;
  }
  return address == CHIP && chip[257] == 0;
}

ssize_t write(int fd, const void *data, size_t n) {
  if (!libc_write) libc_write = dlsym(RTLD_NEXT, "write");
  if (fd != bus) return libc_write(fd, data, n);
  const unsigned char *bytes = data;
  if (!answers()) return fail(EREMOTEIO);
  chip[256] = bytes[0];
  for (size_t i = 1; i < n; i++) {
    if (chip[256] != 0xfe || chip[0] & 0x10) chip[chip[256]] = bytes[i];   /* PRE_SCALE: only in its sleep */
    if (chip[0] & 0x20) chip[256]++;                                      /* AI */
  }
  return (ssize_t)n;
}

ssize_t read(int fd, void *data, size_t n) {
  if (!libc_read) libc_read = dlsym(RTLD_NEXT, "read");
  if (fd != bus) return libc_read(fd, data, n);
  if (!answers()) return fail(EREMOTEIO);
  unsigned char *bytes = data;
  int step = !!(chip[0] & 0x20);   /* AI */
  for (size_t i = 0; i < n; i++) bytes[i] = chip[(unsigned char)(chip[256] + i*step)];
  return (ssize_t)n;
}

static unsigned draw(unsigned char *to) {   /* a grey that is the frame's number */
  if (pix.pixelformat == V4L2_PIX_FMT_YUYV) {
    memset(to, 255, ROW*pix.height);
    for (unsigned y = 0; y < pix.height; y++)
      for (unsigned x = 0; x < 2*pix.width; x++) to[y*ROW + x] = x % 2 ? 128 : 16 + number % 200;
    return ROW*pix.height;
  }
  FILE *f = fopen(getenv("CAMERA_JPEG"), "rb");
  unsigned n = (unsigned)fread(to, 1, SIZE, f);
  fclose(f);
  return n;
}

static int take(struct v4l2_buffer *b) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int early = now.tv_sec < due.tv_sec || (now.tv_sec == due.tv_sec && now.tv_nsec < due.tv_nsec);
  if (!queued[next] || early) {
    usleep(1000);
    return fail(EAGAIN);
  }
  due.tv_nsec += 20000000;   /* 50 Hz, also for those that wait */
  if (due.tv_nsec >= 1000000000) due.tv_nsec -= 1000000000, due.tv_sec++;
  b->index = next, b->bytesused = draw(frames + next*SIZE), number++;
  b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | (number % 7 ? 0 : V4L2_BUF_FLAG_ERROR);
  b->timestamp.tv_sec = now.tv_sec, b->timestamp.tv_usec = now.tv_nsec/1000;
  queued[next] = 0, next = (next + 1) % BUFFERS;
  return 0;
}

static int video(int fd, unsigned long request, void *data) {
  struct v4l2_format *format = data;
  struct v4l2_buffer *b = data;
  const char *gives = getenv("CAMERA");
  struct stat s;
  if (fstat(fd, &s) || !s.st_nlink) return fail(ENODEV);   /* its plug is out */
  switch (request) {
  case VIDIOC_S_FMT:
    if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
    streams = 0;
    if (!memcmp(gives, "MJPG", 4)) format->fmt.pix.width = 640, format->fmt.pix.height = 360;
    else format->fmt.pix.width = 160, format->fmt.pix.height = 120;
    format->fmt.pix.pixelformat = v4l2_fourcc(gives[0], gives[1], gives[2], gives[3]);
    format->fmt.pix.bytesperline = ROW;
    pix = format->fmt.pix;
    return 0;
  case VIDIOC_S_PARM: {
    struct v4l2_streamparm *p = data;
    return p->parm.capture.timeperframe.numerator == 1000 ? 0 : fail(EINVAL);
  }
  case VIDIOC_REQBUFS: {
    struct v4l2_requestbuffers *r = data;
    if (r->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || r->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
    r->count = count = BUFFERS;
    if (ftruncate(fd, BUFFERS*SIZE)) return -1;
    frames = mmap(NULL, BUFFERS*SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(queued, 0, sizeof queued), next = 0, streams = 0;
    return 0;
  }
  case VIDIOC_STREAMON:
    if (*(int *)data != V4L2_BUF_TYPE_VIDEO_CAPTURE || !count) return fail(EINVAL);
    clock_gettime(CLOCK_MONOTONIC, &due);
    streams = 1;
    return 0;
  case VIDIOC_QUERYBUF: case VIDIOC_QBUF: case VIDIOC_DQBUF:
    if (b->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || b->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
    if (b->index >= (unsigned)count) return fail(EINVAL);
    if (request == VIDIOC_DQBUF) return streams ? take(b) : fail(EINVAL);
    if (request == VIDIOC_QUERYBUF) b->m.offset = b->index*SIZE, b->length = SIZE;
    else if (queued[b->index]) return fail(EINVAL);
    else queued[b->index] = 1;
    return 0;
  }
  return fail(ENOTTY);
}

int ioctl(int fd, unsigned long request, ...) {
  static int (*libc_ioctl)(int, unsigned long, ...);
  char path[512];
  va_list rest;
  va_start(rest, request);
  void *data = va_arg(rest, void *);
  va_end(rest);
  request &= 0xffffffff;
  path_of(fd, path);
  if (strstr(path, "/i2c") && request >> 8 == 7) return i2c(fd, request, (unsigned long)data);
  if (strstr(path, "/video") && _IOC_TYPE(request) == 'V') return video(fd, request, data);
  if (!libc_ioctl) libc_ioctl = dlsym(RTLD_NEXT, "ioctl");
  return libc_ioctl(fd, request, data);
}
