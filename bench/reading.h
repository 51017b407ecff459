/* reading: what the load clients share: connections to a server of events, what came, how late.

   An event is a block of lines that has `data:` and ends with an empty line, LF or CRLF; comments,
   `retry` alone and the framing of chunks are none. Its latency is the time since the "at_us" in its
   data (CLOCK_MONOTONIC). One thread, one epoll; only 127.0.0.1, only Linux. Knows nothing of what
   is asked of the server. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 48, READ_BYTES = 1 << 18, MOST_SAMPLES = 1 << 23, READY = 256 };

struct reader {
    int fd;
    int in_head, has_data, counted, awaited;
    size_t length;   /* of the line so far */
    char line[KEPT]; /* its beginning, whole even where the line came in two reads */
    char id[KEPT];   /* the last that came */
    int64_t at_us, opened_us;
};

static char buffer[READ_BYTES], request[256];
static uint32_t *samples;
static size_t sample_count;
static int sampling, epoll, port;
static int64_t events, bytes, served, heads;
static int64_t awaited; /* readers that have not had an event since they were to have one */
static int64_t window_us, window_events, window_bytes, window_busy;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t clock_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static int64_t now_us(void) { return clock_us(CLOCK_MONOTONIC); }

static struct sockaddr_in address(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

static void watch(int fd, uint32_t what, int how, void *whose) {
    struct epoll_event event = {.events = what, .data.ptr = whose};
    if (epoll_ctl(epoll, how, fd, &event)) fail("epoll_ctl");
}

static void sample(int64_t us) {
    if (sampling && us > 0 && sample_count < MOST_SAMPLES) samples[sample_count++] = us;
}

/* Connect, and say it all. Blocking: over the loopback a handshake ends within the call. */
static int dial(const char *said) {
    struct sockaddr_in to = address();
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    ssize_t length = strlen(said);
    if (send(fd, said, length, MSG_NOSIGNAL) != length) fail("send");
    return fd;
}

static void open_reader(struct reader *reader) {
    memset(reader, 0, sizeof *reader);
    reader->in_head = 1;
    reader->opened_us = now_us();
    reader->fd = dial(request);
    watch(reader->fd, EPOLLIN, EPOLL_CTL_ADD, reader);
}

static void end_line(struct reader *reader, int64_t now) {
    size_t length = reader->length;
    reader->line[length < KEPT ? length : KEPT - 1] = 0;
    reader->length = 0;
    if (length > 1 || (length == 1 && reader->line[0] != '\r')) {
        if (reader->in_head && !strncmp(reader->line, "HTTP/1.1 ", 9)) {
            if (strncmp(reader->line + 9, "200", 3)) errno = EPROTO, fail(reader->line);
        } else if (!reader->in_head && !strncmp(reader->line, "data:", 5)) {
            char *at = strstr(reader->line, "\"at_us\":");
            reader->has_data = 1;
            reader->at_us = at ? atoll(at + 8) : 0;
        } else if (!reader->in_head && !strncmp(reader->line, "id:", 3)) {
            const char *id = reader->line + 3 + (reader->line[3] == ' ');
            size_t id_length = strcspn(id, "\r");
            memcpy(reader->id, id, id_length);
            reader->id[id_length] = 0;
        }
    } else if (reader->in_head) {
        reader->in_head = 0, heads++;
    } else if (reader->has_data) {
        reader->has_data = 0, events++;
        if (reader->awaited) reader->awaited = 0, awaited--;
        if (sampling && !reader->counted) reader->counted = 1, served++;
        if (reader->at_us) sample(now - reader->at_us);
    }
}

/* Read what is there; return whether the connection is still open. */
static int read_some(struct reader *reader) {
    ssize_t got = recv(reader->fd, buffer, READ_BYTES, MSG_DONTWAIT);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    bytes += got;
    int64_t now = now_us();
    const char *at = buffer, *end = buffer + got;
    while (at < end) {
        const char *line_end = memchr(at, '\n', end - at);
        size_t part = (line_end ? line_end : end) - at;
        if (reader->length < KEPT) {
            size_t room = KEPT - reader->length;
            memcpy(reader->line + reader->length, at, part < room ? part : room);
        }
        reader->length += part;
        at += part + 1;
        if (line_end) end_line(reader, now);
    }
    return 1;
}

static int by_size(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static uint32_t quantile(double share) {
    return sample_count ? samples[(size_t)(share * (sample_count - 1))] : 0;
}

/* From here on, what comes counts. */
static void begin_window(void) {
    if (!samples) samples = malloc(MOST_SAMPLES * sizeof *samples);
    printf("begin\n");
    fflush(stdout);
    sampling = 1;
    window_us = now_us(), window_events = events, window_bytes = bytes;
    window_busy = clock_us(CLOCK_PROCESS_CPUTIME_ID);
}

/* Say what was seen, and keep what is open until the input is closed. */
static void end_window(int64_t opened, int lost) {
    int64_t length = now_us() - window_us;
    window_busy = clock_us(CLOCK_PROCESS_CPUTIME_ID) - window_busy;
    qsort(samples, sample_count, sizeof *samples, by_size);
    printf("{\"seconds\": %.6f, \"events\": %lld, \"bytes\": %lld, \"opened\": %lld, "
           "\"served\": %lld, \"lost\": %d, \"busy\": %.4f, "
           "\"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u}\n",
           length / 1e6, (long long)(events - window_events), (long long)(bytes - window_bytes),
           (long long)opened, (long long)served, lost, (double)window_busy / length,
           quantile(0.5), quantile(0.99), quantile(1));
    fflush(stdout);
    while (read(0, buffer, 1) > 0) continue;
}
