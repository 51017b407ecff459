/* fanout: the load client of `bench.fanout`: many subscribers, and one who has the server publish.

   fanout credits PORT PATH READERS SIZE BURST WARM_MS WINDOW_MS
       Has the server publish by itself: POST /start/SIZE/BURST, and then a byte of its body for each
       burst that may leave. So many are allowed at once, and so many more as have reached everyone.
   fanout posts PORT PATH READERS SIZE PACE_MS WARM_MS WINDOW_MS
       Publishes over HTTP, POST /publish, every PACE_MS; with 0 in lockstep: the next one when the
       last is answered and everyone has it.
   fanout idle PORT PATH READERS
       Publishes once, and then nothing.
   fanout storm PORT PATH READERS SIZE
       Leaves with all readers, publishes, comes back with all and their Last-Event-ID, and measures
       until everyone has what was published.

   All begin alike: every reader gets its head, and then an event that is published over HTTP, so that
   from there on everyone is known to listen. What an event is, `reading.h` says. */

#include "reading.h"

enum { ALLOWED = 8000, LEAST_ALLOWED = 2 }; /* deliveries, and bursts, that may be under way */
enum { UNANSWERED = 1000 };                 /* connections that wait for their head at a time */
enum { PATIENCE_US = 120000000, AGAIN_US = 1500000, QUIET_US = 50000, IDLE_US = 1000000 };
enum { NAP_NS = 100000 };

static struct reader *readers;
static int reader_count, lost;
static long size = 100;

/* Publishing over HTTP, one after the other on one connection. */
static int poster = -1, answer_due;
static char answer[16384];
static size_t answer_length;
static int64_t posts;

static void post(void) {
    static char said[8192], body[7168];
    const char *form = "{\"at_us\":%lld,\"index\":%lld,\"text\":\"";
    int length = sprintf(body, form, (long long)now_us(), (long long)posts++);
    while (length < size - 2) body[length++] = 'x';
    length += sprintf(body + length, "\"}");
    int all = sprintf(said,
                      "POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                      "X-EventSource-Event: token\r\nContent-Length: %d\r\n\r\n%s",
                      length, body);
    if (poster < 0) {
        poster = dial(said);
        watch(poster, EPOLLIN, EPOLL_CTL_ADD, NULL);
    } else if (send(poster, said, all, MSG_NOSIGNAL) != all) fail("send");
    answer_due = 1, answer_length = 0;
}

static void read_answer(void) {
    ssize_t got = recv(poster, answer + answer_length, sizeof answer - 1 - answer_length, 0);
    if (got <= 0 && !answer_due) { /* idle for too long: the next event has another one */
        close(poster);
        poster = -1;
        return;
    }
    if (got <= 0) errno = EPIPE, fail("the publisher's connection");
    answer[answer_length += got] = 0;
    const char *end = strstr(answer, "\r\n\r\n"), *sized = strcasestr(answer, "\r\ncontent-length:");
    if (!end) return;
    if (strncmp(answer, "HTTP/1.1 2", 10)) errno = EPROTO, fail(answer);
    size_t body = sized && sized < end ? atol(sized + 17) : 0;
    if (answer_length >= end + 4 - answer + body) answer_due = 0;
}

/* Read what is there, and nap. Who waits instead is woken by every send of a server that is slower
   than this client, and the waking is part of the server's send. */
static void turn(void) {
    struct epoll_event ready[READY];
    int count = epoll_wait(epoll, ready, READY, 0);
    for (int i = 0; i < count; i++) {
        struct reader *reader = ready[i].data.ptr;
        if (!reader) read_answer();
        else if (!read_some(reader)) close(reader->fd), lost++;
    }
    if (count < READY) nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
}

static void give_up(int64_t since, const char *what) {
    if (!lost && now_us() - since < PATIENCE_US) return;
    fprintf(stderr, "%s: %lld heads, %lld still wait for an event, %d lost\n", what,
            (long long)heads, (long long)awaited, lost);
    exit(1);
}

static void await_all(void) {
    for (int i = 0; i < reader_count; i++) readers[i].awaited = 1;
    awaited = reader_count;
}

static void open_all(void) {
    int64_t start = now_us(), opened = 0;
    while (heads < reader_count) {
        while (opened < reader_count && opened - heads < UNANSWERED) open_reader(&readers[opened++]);
        turn();
        give_up(start, "not all were answered");
    }
}

/* An event that everyone gets; whoever is answered before it listens gets the next one. */
static void greet(void) {
    int64_t start = now_us(), last = start, seen = events;
    await_all();
    post();
    while (awaited || answer_due || now_us() - last < QUIET_US) {
        turn();
        if (events > seen) seen = events, last = now_us();
        if (awaited && !answer_due && now_us() - last > AGAIN_US) post(), last = now_us();
        give_up(start, "not all had an event");
    }
}

/* Begin the window when the warm-up is over, and say whether the window is; asked when a burst has
   reached everyone, so that there are whole ones in it, also where one takes a second. */
static int is_over(int64_t start_us, double warm_ms, double window_ms) {
    int64_t now = now_us();
    if (!sampling && now - start_us >= 1000 * warm_ms) begin_window();
    return sampling && now - window_us >= 1000 * window_ms && events > window_events;
}

static void credits(long burst, double warm_ms, double window_ms) {
    static char said[8192];
    int64_t each = reader_count * burst, most = ALLOWED / each, given = 0, before = events;
    if (most < LEAST_ALLOWED) most = LEAST_ALLOWED;
    sprintf(said,
            "POST /start/%ld/%ld HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Content-Type: application/octet-stream\r\nContent-Length: 1000000000\r\n\r\n",
            size, burst);
    int fd = dial(said);
    memset(said, '+', sizeof said);
    int64_t start = now_us(), whole = 0;
    for (;;) {
        int64_t had = (events - before) / each, more = had + most - given;
        /* Not one by one: the server is to spend its time on events. */
        if (more >= (most + 1) / 2) {
            if (send(fd, said, more, MSG_NOSIGNAL) != more) fail("send");
            given += more;
        }
        if (had > whole && is_over(start, warm_ms, window_ms)) break;
        whole = had;
        turn();
        give_up(start, "too slow");
    }
    end_window(given, lost);
}

static void post_all(double pace_ms, double warm_ms, double window_ms) {
    int64_t start = now_us(), due = start, before = events, first = posts;
    for (;;) {
        int everyone = events - before >= (posts - first) * reader_count;
        int next = pace_ms > 0 ? now_us() >= due : everyone;
        if (!answer_due && next) {
            if (is_over(start, warm_ms, window_ms)) break;
            post();
            due += (int64_t)(1000 * pace_ms);
        }
        turn();
        give_up(start, "too slow");
    }
    end_window(posts - first, lost);
}

static void idle(void) {
    for (int64_t end = now_us() + IDLE_US; now_us() < end;) turn();
    begin_window();
    end_window(0, lost);
}

static void storm(void) {
    size_t length = strlen(request) - 2; /* without the empty line */
    for (int i = 0; i < reader_count; i++) close(readers[i].fd);
    int64_t start = now_us(), opened = 0;
    heads = 0, awaited = reader_count;
    begin_window();
    post();
    while (awaited) {
        while (opened < reader_count && opened - heads < UNANSWERED) {
            struct reader *reader = &readers[opened++];
            snprintf(request + length, sizeof request - length, "Last-Event-ID: %s\r\n\r\n",
                     reader->id);
            open_reader(reader);
            reader->awaited = 1;
        }
        turn();
        give_up(start, "not all had what they have missed");
    }
    end_window(reader_count, lost);
}

int main(int count, char **words) {
    if (count < 5) return 2;
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(0);
    port = atoi(words[2]);
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n", words[3]);
    reader_count = atoi(words[4]);
    readers = calloc(reader_count, sizeof *readers);
    if (count > 5) size = atol(words[5]);
    open_all();
    greet();
    if (!strcmp(words[1], "credits") && count == 9)
        credits(atol(words[6]), atof(words[7]), atof(words[8]));
    else if (!strcmp(words[1], "posts") && count == 9)
        post_all(atof(words[6]), atof(words[7]), atof(words[8]));
    else if (!strcmp(words[1], "idle")) idle();
    else if (!strcmp(words[1], "storm")) storm();
    else return 2;
    return 0;
}
