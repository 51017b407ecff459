/* load: the load client of the benchmarks, and a server that shows how much the client can take.

   load read PORT PATH CONNECTIONS RAMP_MS WARM_MS WINDOW_MS
       Opens the connections evenly over the ramp, reads, prints "begin" after the warm-up and one
       line of JSON after the window, and keeps the connections until its input is closed.
   load open PORT PATH AT_ONCE WARM_MS WINDOW_MS
       Connects, waits for the first event, closes, and begins again, in AT_ONCE places.
   load serve PORT
       Answers /BYTES/PAUSE_MS as every rival does, from frames that were made beforehand.

   An event is a block of lines that has `data:` and ends with an empty line, LF or CRLF; comments,
   `retry` alone and the framing of chunks are none. Its latency is the time since the "at_us" in its
   data (CLOCK_MONOTONIC). One thread, one epoll; only 127.0.0.1, only Linux. */

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

enum { KEPT = 48, READ_BYTES = 1 << 18, MOST_SAMPLES = 1 << 23, READY = 256, BATCH = 64 };
enum { NEVER_MS = 60000 }; /* from this pause on, a connection gets one event and no more */

struct reader {
    int fd;
    int in_head, has_data, counted;
    size_t length;   /* of the line so far */
    char line[KEPT]; /* its beginning, whole even where the line came in two reads */
    int64_t at_us, opened_us;
};

static char buffer[READ_BYTES], request[256];
static uint32_t *samples;
static size_t sample_count;
static int sampling, epoll, port;
static int64_t events, bytes, served;

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

/* --- the client */

static void open_reader(struct reader *reader) {
    struct sockaddr_in to = address();
    memset(reader, 0, sizeof *reader);
    reader->in_head = 1;
    reader->opened_us = now_us();
    reader->fd = socket(AF_INET, SOCK_STREAM, 0);
    /* Blocking: over the loopback a handshake ends within the call. */
    if (reader->fd < 0 || connect(reader->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    ssize_t length = strlen(request);
    if (send(reader->fd, request, length, MSG_NOSIGNAL) != length) fail("send");
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
        }
    } else if (reader->in_head) {
        reader->in_head = 0;
    } else if (reader->has_data) {
        reader->has_data = 0, events++;
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

/* Read, or open and close, until the window is over; say what was seen in it. */
static void load(int connections, double ramp_ms, double warm_ms, double window_ms, int reopen) {
    struct reader *readers = calloc(connections, sizeof *readers);
    struct epoll_event ready[READY];
    int opened = 0, lost = 0;
    int64_t start = now_us(), cycles = 0, events_before = 0, bytes_before = 0, busy = 0;
    int64_t begin = start + (int64_t)(1000 * (ramp_ms + warm_ms));
    int64_t end = begin + (int64_t)(1000 * window_ms), now = start;
    samples = malloc(MOST_SAMPLES * sizeof *samples);
    while (now < end) {
        double due = ramp_ms > 0 ? connections * (now - start) / (1000 * ramp_ms) : connections;
        while (opened < connections && opened <= due) open_reader(&readers[opened++]);
        if (!sampling && now >= begin) {
            printf("begin\n");
            fflush(stdout);
            sampling = 1, begin = now, cycles = 0;
            events_before = events, bytes_before = bytes;
            busy = clock_us(CLOCK_PROCESS_CPUTIME_ID);
        }
        int count = epoll_wait(epoll, ready, READY, 1);
        for (int i = 0; i < count; i++) {
            struct reader *reader = ready[i].data.ptr;
            int64_t events_so_far = events;
            int open = read_some(reader);
            int done = reopen && events > events_so_far;
            if (open && !done) continue;
            if (done) sample(now_us() - reader->opened_us), cycles++;
            else lost++;
            close(reader->fd);
            if (reopen) open_reader(reader);
        }
        now = now_us();
    }
    busy = clock_us(CLOCK_PROCESS_CPUTIME_ID) - busy;
    qsort(samples, sample_count, sizeof *samples, by_size);
    printf("{\"seconds\": %.6f, \"events\": %lld, \"bytes\": %lld, \"opened\": %lld, "
           "\"served\": %lld, \"lost\": %d, \"busy\": %.4f, "
           "\"p50_us\": %u, \"p99_us\": %u, \"max_us\": %u}\n",
           (now - begin) / 1e6, (long long)(events - events_before),
           (long long)(bytes - bytes_before), (long long)cycles, (long long)served, lost,
           (double)busy / (now - begin), quantile(0.5), quantile(0.99), quantile(1));
    fflush(stdout);
    while (read(0, buffer, 1) > 0) continue;
}

/* --- the server */

struct client {
    int fd, alive, queued;
    long size, pause_ms;
    size_t sent; /* of the batch */
    int64_t due_us;
    struct client *next;
};

static struct client *first, *last; /* by when they are due: a run has one pause for all */
static char batch[BATCH * 4096 + 64];
static size_t batch_bytes;
static long batch_size;

static size_t put_frame(char *to, long size, int64_t at, long number) {
    int text = size > 45 ? size - 45 : 0;
    size_t head = sprintf(to, "id: %ld\nevent: token\ndata: {\"at_us\":%lld,\"index\":%ld,\"text\":\"",
                          number, (long long)at, number);
    memset(to + head, 'x', text);
    return head + text + sprintf(to + head + text, "\"}\n\n");
}

static void make_batch(long size) {
    static char frames[sizeof batch];
    size_t length = 0;
    for (int i = 0; i < BATCH; i++) length += put_frame(frames + length, size, 0, i);
    batch_size = size;
    batch_bytes = sprintf(batch, "%zx\r\n%.*s\r\n", length, (int)length, frames);
}

static void send_one(struct client *client, int64_t now) {
    static char frame[4096], chunk[4200];
    size_t length = put_frame(frame, client->size, now, 0);
    length = sprintf(chunk, "%zx\r\n%.*s\r\n", length, (int)length, frame);
    send(client->fd, chunk, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (client->pause_ms >= NEVER_MS) return;
    client->due_us = now + client->pause_ms * 1000;
    client->next = NULL;
    client->queued = 1;
    *(first ? &last->next : &first) = client;
    last = client;
}

static void begin_answer(struct client *client) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    if (sscanf(buffer, "GET /%ld/%ld", &client->size, &client->pause_ms) != 2) return;
    send(client->fd, head, sizeof head - 1, MSG_NOSIGNAL);
    if (client->pause_ms) {
        send_one(client, now_us());
    } else {
        if (batch_size != client->size) make_batch(client->size);
        watch(client->fd, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD, client);
    }
}

static void blast(struct client *client) {
    size_t left = batch_bytes - client->sent;
    ssize_t sent = send(client->fd, batch + client->sent, left, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) client->sent = (client->sent + sent) % batch_bytes;
}

static void serve(void) {
    struct epoll_event ready[READY];
    struct sockaddr_in at = address();
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) fail("bind");
    watch(listener, EPOLLIN, EPOLL_CTL_ADD, NULL);
    for (;;) {
        int count = epoll_wait(epoll, ready, READY, first ? 1 : -1);
        int64_t now = now_us();
        while (first && (!first->alive || first->due_us <= now)) {
            struct client *client = first;
            first = client->next;
            client->queued = 0;
            client->alive ? send_one(client, now) : free(client);
        }
        for (int i = 0; i < count; i++) {
            struct client *client = ready[i].data.ptr;
            if (!client) {
                client = calloc(1, sizeof *client);
                client->alive = 1;
                client->fd = accept(listener, NULL, NULL);
                if (client->fd < 0) fail("accept");
                setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                watch(client->fd, EPOLLIN, EPOLL_CTL_ADD, client);
            } else if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t got = recv(client->fd, buffer, sizeof buffer - 1, MSG_DONTWAIT);
                if (got > 0) {
                    buffer[got] = 0;
                    begin_answer(client);
                } else {
                    close(client->fd);
                    client->alive = 0;
                    if (!client->queued) free(client);
                }
            } else blast(client);
        }
    }
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    if (count >= 3) port = atoi(words[2]);
    if (count >= 4)
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", words[3]);
    if (count == 3 && !strcmp(words[1], "serve")) serve();
    else if (count == 8 && !strcmp(words[1], "read"))
        load(atoi(words[4]), atof(words[5]), atof(words[6]), atof(words[7]), 0);
    else if (count == 7 && !strcmp(words[1], "open"))
        load(atoi(words[4]), 0, atof(words[5]), atof(words[6]), 1);
    else return 2;
    return 0;
}
