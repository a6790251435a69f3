/*
 * Decodes the chunks of a flat plan outside Python's lock, in threads of its own.
 *
 * The plan is made in Python (`core.py` documents its tables) and checked here before anything is read or written. For
 * each chunk a thread
 *
 * 1. reads its bytes by position, or takes them where they are in memory,
 * 2. compares its crc32c,
 * 3. decodes it into a buffer, or into the output where a part is the whole chunk; of formats that can stop early, as
 *    far as parts want it,
 * 4. undoes the order of bytes and the predictor, where parts want it,
 * 5. copies its parts to where they belong.
 *
 * The decoders are functions of libraries that are installed with Python packages: `bind` is given their addresses, so
 * that nothing is linked here and no foreign header is needed. A chunk that is damaged, or that only the Python way
 * knows how to decode, is reported by its number and leaves its parts undefined.
 *
 * Threads start with the first plan that is large enough, and sleep between plans. A forked child has none of its
 * parent's; it starts its own.
 */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define HAS_SSE2
#endif

/* ------------------------------------------------------------------------------------ the operating system */

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <io.h>
#include <windows.h>

typedef SRWLOCK mutex_t;
typedef CONDITION_VARIABLE cond_t;
typedef volatile LONG64 counter_t;
#define MUTEX_INIT SRWLOCK_INIT
#define COND_INIT CONDITION_VARIABLE_INIT
#define mutex_lock(m) AcquireSRWLockExclusive(m)
#define mutex_unlock(m) ReleaseSRWLockExclusive(m)
#define cond_init(c) InitializeConditionVariable(c)
#define cond_destroy(c) ((void)(c))
#define cond_signal(c) WakeConditionVariable(c)
#define cond_wait(c, m) SleepConditionVariableSRW(c, m, INFINITE, 0)
#define cond_wait_ms(c, m, ms) SleepConditionVariableSRW(c, m, ms, 0)
#define counter_set(c, value) InterlockedExchange64(c, value)
#define counter_add(c, value) (InterlockedExchangeAdd64(c, value) + (value))
#define counter_get(c) InterlockedCompareExchange64(c, 0, 0)
#define yield_cpu() SwitchToThread()
#define process_id() 0 /* nothing forks */

static int64_t microseconds(void) {
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (int64_t)((double)now.QuadPart * 1e6 / (double)frequency.QuadPart);
}

static int64_t read_at(int fd, uint8_t *to, int64_t count, int64_t offset) {
    HANDLE file = (HANDLE)_get_osfhandle(fd);
    OVERLAPPED at = {0};
    DWORD done = 0;
    at.Offset = (DWORD)offset;
    at.OffsetHigh = (DWORD)(offset >> 32);
    return ReadFile(file, to, (DWORD)(count > 1 << 30 ? 1 << 30 : count), &done, &at) ? (int64_t)done : -1;
}

static void *worker(void *unused);
static DWORD WINAPI run_worker(LPVOID unused) {
    worker(unused);
    return 0;
}

static int start_thread(void) {
    HANDLE thread = CreateThread(NULL, 1 << 20, run_worker, NULL, 0, NULL);
    return thread != NULL && CloseHandle(thread);
}

#else

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

typedef pthread_mutex_t mutex_t;
typedef pthread_cond_t cond_t;
typedef int64_t counter_t;
#define MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define COND_INIT PTHREAD_COND_INITIALIZER
#define mutex_lock(m) pthread_mutex_lock(m)
#define mutex_unlock(m) pthread_mutex_unlock(m)
#define cond_init(c) pthread_cond_init(c, NULL)
#define cond_destroy(c) pthread_cond_destroy(c)
#define cond_signal(c) pthread_cond_signal(c)
#define cond_wait(c, m) pthread_cond_wait(c, m)
#define counter_set(c, value) __atomic_store_n(c, value, __ATOMIC_RELAXED)
#define counter_add(c, value) __atomic_add_fetch(c, value, __ATOMIC_ACQ_REL)
#define counter_get(c) __atomic_load_n(c, __ATOMIC_ACQUIRE)
#define yield_cpu() sched_yield()
#define process_id() ((int64_t)getpid())

static int64_t microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void cond_wait_ms(cond_t *cond, mutex_t *mutex, int ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(cond, mutex, &until);
}

static int64_t read_at(int fd, uint8_t *to, int64_t count, int64_t offset) {
    ssize_t done;
    do
        done = pread(fd, to, (size_t)count, (off_t)offset);
    while (done < 0 && errno == EINTR);
    return done;
}

static void *worker(void *unused);

static int start_thread(void) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all); /* signals are for Python's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    int failed = pthread_create(&thread, &attributes, worker, NULL);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !failed;
}

#endif

/* -------------------------------------------------------------------------------------------------- the plan */

#define MOST_AXES 16
#define CRC_BYTES 4
#define CRC_RESIDUE 0x48674BC7u /* the crc32c of any bytes followed by their own crc32c */
#define SIGNALS_MS 50           /* between two looks for an interrupt */
/* A thread that has nothing to do looks for work so long before it sleeps, leaving the CPU to whoever wants it: waking
 * it takes as long as decoding a chunk or two, and in a loop of small reads the next one is due sooner. */
#define AWAKE_US 100
/* Neighbours that a thread of a large plan takes at once. Their parts lie beside each other: if two threads copied them,
 * they would wait for each other's lines of memory (measured: 1.12 times the CPU time of one thread, and so 1.0). */
#define MOST_TAKEN 8

/* The columns of the tables; `core.py` writes them. */
enum {
    KIND, CRC, PREDICTOR, LAG, ROW, ITEM, FILL, FILL_HIGH, SWAP, EARLY, COLOUR, TABLES, TABLES_LENGTH, FORMAT_HEAD
}; /* then the shape, then the strides */
enum { NO_PREDICTOR, HORIZONTAL, FLOATING };
enum { SOURCE, OFFSET, LENGTH, FORMAT, FIRST, STOP, CHUNK_WIDTH };
enum { WINDOW, PART_HEAD }; /* then the start in the chunk, the start in the output, the size */

typedef struct {
    char *base;
    int64_t shape[MOST_AXES], strides[MOST_AXES];
} output_t;

typedef struct {
    int axes;
    int64_t chunk_count, format_count, part_count, window_count;
    const int64_t *formats, *chunks, *parts, *steps;
    output_t *outputs;
    uint8_t *damaged; /* of each chunk */
} plan_t;

static const int64_t *format_of(const plan_t *plan, int64_t k) {
    return plan->formats + k * (FORMAT_HEAD + 2 * plan->axes);
}

static const int64_t *part_of(const plan_t *plan, int64_t k) { return plan->parts + k * (PART_HEAD + 3 * plan->axes); }

/* ------------------------------------------------------------------------------------------------ the decoders */

#define HEAD_BYTES 256 /* at least those of a TIFF without its JPEG tables */

/* A TIFF of one strip that has no pixels, by which libtiff knows how to decode those that it is given. */
typedef struct {
    void *tiff;
    uint8_t *head;
    size_t size, at; /* at: which byte of it libtiff reads next */
    int complaints;  /* errors and warnings */
} picture_t;

/* What a thread needs to decode: buffers that grow, and contexts of libraries. */
typedef struct scratch {
    struct scratch *next;
    uint8_t *memory[3];
    size_t room[3];
    void *zstd, *deflate;
    picture_t pictures[2]; /* of LZW and JPEG: tiles alternate between them seldom */
} scratch_t;

enum { ENCODED, DECODED, SPARE };
#define KEPT_BYTES ((size_t)8 << 20) /* larger buffers are given back */
/* libjpeg-turbo writes past the caches to buffers that begin on 32 bytes, and the copy that follows waits for memory */
#define ALIGNED 64
#define BEGIN 16

static uint8_t *buffer(scratch_t *scratch, int which, size_t size) {
    if (scratch->room[which] < size) {
        free(scratch->memory[which]);
        scratch->memory[which] = malloc(size + ALIGNED + BEGIN);
        scratch->room[which] = scratch->memory[which] == NULL ? 0 : size;
        if (scratch->memory[which] == NULL)
            return NULL;
    }
    uintptr_t start = ((uintptr_t)scratch->memory[which] + ALIGNED - 1) & ~(uintptr_t)(ALIGNED - 1);
    return (uint8_t *)(start + BEGIN);
}

typedef int (*complaint_t)(void *, void *, const char *, const char *, va_list);
typedef int64_t (*transfer_t)(void *, void *, int64_t);

/* Functions of other libraries, in the order of `_FUNCTIONS` in core.py. */
static struct {
    uint32_t (*crc32c_value)(const uint8_t *, size_t);
    int (*blosc_decompress_ctx)(const void *, void *, size_t, int);
    int (*blosc_compress_ctx)(int, int, size_t, size_t, const void *, void *, size_t, const char *, size_t, int);
    void *(*ZSTD_createDCtx)(void);
    size_t (*ZSTD_decompressDCtx)(void *, void *, size_t, const void *, size_t);
    size_t (*ZSTD_initDStream)(void *);
    size_t (*ZSTD_decompressStream)(void *, void *, void *);
    void *(*libdeflate_alloc_decompressor)(void);
    int (*libdeflate_zlib_decompress)(void *, const void *, size_t, void *, size_t, size_t *);
    void *(*TIFFOpenOptionsAlloc)(void);
    void (*TIFFOpenOptionsFree)(void *);
    void (*TIFFOpenOptionsSetErrorHandlerExtR)(void *, complaint_t, void *);
    void (*TIFFOpenOptionsSetWarningHandlerExtR)(void *, complaint_t, void *);
    void *(*TIFFClientOpenExt)(const char *, const char *, void *, transfer_t, transfer_t,
                               uint64_t (*)(void *, uint64_t, int), int (*)(void *), uint64_t (*)(void *),
                               int (*)(void *, void **, uint64_t *), void (*)(void *, void *, uint64_t), void *);
    int (*TIFFSetField)(void *, uint32_t, ...);
    int (*TIFFReadFromUserBuffer)(void *, uint32_t, void *, int64_t, void *, int64_t);
    void (*TIFFClose)(void *);
} library;

/*
 * A decoder returns where the `size` decoded bytes are, usually `to`; NULL if there are not exactly so many. Formats that
 * can stop early are asked for the first bytes alone: then there may be more.
 */
typedef const uint8_t *(*decoder_t)(scratch_t *, const int64_t *format, const uint8_t *from, size_t count, uint8_t *to,
                                    size_t size, int whole);

static const uint8_t *decode_raw(scratch_t *scratch, const int64_t *format, const uint8_t *from, size_t count,
                                 uint8_t *to, size_t size, int whole) {
    (void)scratch;
    (void)format;
    (void)to;
    return whole ? (count == size ? from : NULL) : (count >= size ? from : NULL);
}

static uint32_t little_endian(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static const uint8_t *decode_blosc(scratch_t *scratch, const int64_t *format, const uint8_t *from, size_t count,
                                   uint8_t *to, size_t size, int whole) {
    (void)scratch;
    (void)format;
    (void)whole;
    /* its header: decoded size, block size, encoded size at byte 4; the library trusts it */
    if (count < 16 || little_endian(from + 4) != size || little_endian(from + 12) > count)
        return NULL;
    int found = library.blosc_decompress_ctx(from, to, size, 1);
    return found >= 0 && (size_t)found == size ? to : NULL;
}

static const uint8_t *decode_zstd(scratch_t *scratch, const int64_t *format, const uint8_t *from, size_t count,
                                  uint8_t *to, size_t size, int whole) {
    (void)format;
    if (scratch->zstd == NULL && (scratch->zstd = library.ZSTD_createDCtx()) == NULL)
        return NULL;
    if (whole)
        return library.ZSTD_decompressDCtx(scratch->zstd, to, size, from, count) == size ? to : NULL;
    struct {
        const void *at;
        size_t size, done;
    } in = {from, count, 0};
    struct {
        void *at;
        size_t size, done;
    } out = {to, size, 0};
    library.ZSTD_initDStream(scratch->zstd);
    while (out.done < size) {
        size_t before = out.done + in.done, left = library.ZSTD_decompressStream(scratch->zstd, &out, &in);
        /* 0 at the end of a frame, else what it would like to have next; errors are negative numbers */
        if (left == 0 || left > SIZE_MAX / 2 || out.done + in.done == before)
            break;
    }
    return out.done == size ? to : NULL;
}

static const uint8_t *decode_zlib(scratch_t *scratch, const int64_t *format, const uint8_t *from, size_t count,
                                  uint8_t *to, size_t size, int whole) {
    (void)format;
    (void)whole;
    if (scratch->deflate == NULL && (scratch->deflate = library.libdeflate_alloc_decompressor()) == NULL)
        return NULL;
    size_t found = 0;
    int failed = library.libdeflate_zlib_decompress(scratch->deflate, from, count, to, size, &found);
    return !failed && found == size ? to : NULL;
}

/* ------------------------------------------------------------------------------------------ what libtiff decodes */

enum { LZW = 5, JPEG_IN_TIFF = 7, IS_ZERO_BLACK = 1, IS_RGB = 2, IS_YCBCR = 6 };
#define JPEG_COLOUR_MODE 65538 /* 1: libtiff returns RGB */
#define MOST_TABLES ((int64_t)1 << 24)

static int complain(void *tiff, void *picture, const char *module, const char *format, va_list values) {
    (void)tiff;
    (void)module;
    (void)format;
    (void)values;
    ((picture_t *)picture)->complaints++;
    return 1; /* nobody else hears of it */
}

static int64_t read_head(void *of, void *to, int64_t count) {
    picture_t *picture = of;
    size_t left = picture->at < picture->size ? picture->size - picture->at : 0;
    size_t done = count < 0 ? 0 : (size_t)count < left ? (size_t)count : left;
    if (done)
        memcpy(to, picture->head + picture->at, done);
    picture->at += done;
    return (int64_t)done;
}

static int64_t write_nothing(void *picture, void *from, int64_t count) {
    (void)picture;
    (void)from;
    (void)count;
    return 0;
}

static uint64_t seek_head(void *of, uint64_t offset, int whence) {
    picture_t *picture = of;
    uint64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? picture->at : picture->size;
    picture->at = (size_t)(from + offset);
    return picture->at;
}

static int no_close(void *picture) {
    (void)picture;
    return 0;
}

static uint64_t head_size(void *picture) { return ((picture_t *)picture)->size; }

static void put(uint8_t *at, int bytes, uint32_t value) {
    for (int k = 0; k < bytes; k++)
        at[k] = (uint8_t)(value >> (8 * k));
}

/* What is in the header of a JPEG, as far as it matters here. */
typedef struct {
    uint32_t width, height, components, across, down; /* samples of luma for one of chroma */
    int for_us; /* whoever guesses its colours takes them for YCbCr */
} jpeg_t;

/* Writes a TIFF of one strip that is not stored (offset 0); returns its size. */
static size_t write_head(uint8_t *head, uint32_t compression, const jpeg_t *jpeg, const int64_t *format) {
    size_t tables = (size_t)format[TABLES_LENGTH], at = 10;
    uint32_t photometric = !format[COLOUR] ? (jpeg->components == 3 ? IS_RGB : IS_ZERO_BLACK) : IS_YCBCR;
    const uint32_t tags[][4] = {
        /* tag, type (3: 16 bits, 4: 32 bits, 7: bytes), number, value */
        {256, 4, 1, jpeg->width},   {257, 4, 1, jpeg->height},     {258, 3, 1, 8},
        {259, 3, 1, compression},   {262, 3, 1, photometric},      {273, 4, 1, 0},
        {277, 3, 1, jpeg->components}, {278, 4, 1, jpeg->height},  {279, 4, 1, 0},
        {284, 3, 1, 1},             {347, 7, (uint32_t)tables, HEAD_BYTES}, {530, 3, 2, jpeg->across | jpeg->down << 16},
    };
    uint32_t count = 0;
    memset(head, 0, HEAD_BYTES);
    memcpy(head, "II\x2a\0\x08\0\0\0", 8);
    for (size_t k = 0; k < sizeof(tags) / sizeof(tags[0]); k++) {
        if ((tags[k][0] == 347 && !tables) || (tags[k][0] == 530 && photometric != IS_YCBCR))
            continue;
        put(head + at, 2, tags[k][0]);
        put(head + at + 2, 2, tags[k][1]);
        put(head + at + 4, 4, tags[k][2]);
        put(head + at + 8, 4, tags[k][3]);
        at += 12;
        count++;
    }
    put(head + 8, 2, count);
    if (tables)
        memcpy(head + HEAD_BYTES, (const void *)(uintptr_t)format[TABLES], tables);
    return HEAD_BYTES + tables;
}

static void close_picture(picture_t *picture) {
    if (picture->tiff != NULL)
        library.TIFFClose(picture->tiff);
    picture->tiff = NULL;
}

static int open_picture(picture_t *picture, int in_colour) {
    void *options = library.TIFFOpenOptionsAlloc();
    if (options == NULL)
        return 0;
    picture->complaints = 0;
    picture->at = 0;
    library.TIFFOpenOptionsSetErrorHandlerExtR(options, complain, picture);
    library.TIFFOpenOptionsSetWarningHandlerExtR(options, complain, picture);
    picture->tiff = library.TIFFClientOpenExt("tile", "rm", picture, read_head, write_nothing, seek_head, no_close,
                                              head_size, NULL, NULL, options);
    library.TIFFOpenOptionsFree(options);
    return picture->tiff != NULL && (!in_colour || library.TIFFSetField(picture->tiff, JPEG_COLOUR_MODE, 1));
}

/*
 * libtiff decodes what it is given as the only strip of a TIFF: without a predictor, as that is undone here where pixels
 * are wanted. What it complains about is left to the Python way, and so is what is damaged.
 */
static const uint8_t *decode_strip(picture_t *picture, uint32_t compression, const jpeg_t *jpeg, const int64_t *format,
                                   const uint8_t *from, size_t count, uint8_t *to, size_t size) {
    uint8_t *head = malloc(HEAD_BYTES + (size_t)format[TABLES_LENGTH]);
    if (head == NULL)
        return NULL;
    size_t length = write_head(head, compression, jpeg, format);
    if (picture->tiff != NULL && picture->size == length && !memcmp(picture->head, head, length))
        free(head);
    else {
        close_picture(picture);
        free(picture->head);
        picture->head = head;
        picture->size = length;
        if (!open_picture(picture, format[COLOUR] != 0)) {
            close_picture(picture);
            return NULL;
        }
    }
    /* it does not write to the bytes that it is given, but to turn round their bits, which this file does not ask for */
    int done = library.TIFFReadFromUserBuffer(picture->tiff, 0, (void *)(uintptr_t)from, (int64_t)count, to, (int64_t)size);
    if (done && !picture->complaints)
        return to;
    close_picture(picture); /* so that what it remembers of the damaged strip is forgotten */
    return NULL;
}

static const uint8_t *decode_lzw(scratch_t *scratch, const int64_t *format, const uint8_t *from, size_t count,
                                 uint8_t *to, size_t size, int whole) {
    static const jpeg_t one_pixel = {1, 1, 1, 1, 1, 1};
    (void)whole;
    return decode_strip(scratch->pictures, LZW, &one_pixel, format, from, count, to, size);
}

static uint32_t big_endian(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }

/* Reads the header of a JPEG of one scan with Huffman codes; returns 0 for any other (ITU-T T.81, annex B). */
static int read_header(const uint8_t *from, size_t count, jpeg_t *found) {
    size_t at = 2;
    int jfif = 0, adobe = 0;
    uint32_t ids = 0;
    found->components = 0;
    if (count < 4 || from[0] != 0xFF || from[1] != 0xD8)
        return 0;
    while (at + 4 <= count && from[at] == 0xFF) {
        uint8_t marker = from[at + 1];
        size_t length = big_endian(from + at + 2);
        const uint8_t *body = from + at + 4;
        at += 2 + length;
        if (length < 2 || at > count)
            return 0;
        length -= 2;
        if (marker == 0xC0 || marker == 0xC1) {
            if (found->components || length < 6 || body[0] != 8 || length != 6 + 3 * (size_t)body[5])
                return 0;
            found->height = big_endian(body + 1);
            found->width = big_endian(body + 3);
            found->components = body[5];
            for (uint32_t k = 0; k < found->components; k++) {
                ids = ids << 8 | body[6 + 3 * k];
                if (k && body[7 + 3 * k] != 0x11)
                    return 0;
            }
            if (found->components) {
                found->across = body[7] >> 4;
                found->down = body[7] & 15;
            }
        } else if (marker == 0xDA) {
            found->for_us = jfif || (!adobe && ids != 0x524742); /* whose components are called R, G and B */
            return found->components && length >= 1 && body[0] == found->components;
        } else if (marker == 0xE0)
            jfif |= length >= 5 && !memcmp(body, "JFIF", 5);
        else if (marker == 0xEE)
            adobe |= length >= 5 && !memcmp(body, "Adobe", 5);
        else if (marker != 0xC4 && marker != 0xDB && marker != 0xDD && marker != 0xFE && (marker & 0xF0) != 0xE0)
            return 0;
    }
    return 0;
}

/*
 * The Python way lets libjpeg guess the colours of a JPEG, libtiff goes by its tags: what they would take for different
 * colours is left to the Python way. libtiff checks all else that it relies on.
 */
static const uint8_t *decode_jpeg(scratch_t *scratch, const int64_t *format, const uint8_t *from, size_t count,
                                  uint8_t *to, size_t size, int whole) {
    jpeg_t jpeg;
    if (!read_header(from, count, &jpeg) || jpeg.components != (uint64_t)format[LAG] ||
        jpeg.width != (uint64_t)(format[ROW] / format[LAG]) || (format[COLOUR] && !jpeg.for_us))
        return NULL;
    uint64_t rows = size / (size_t)format[ROW];
    if (whole ? jpeg.height != rows : jpeg.height < rows)
        return NULL;
    return decode_strip(scratch->pictures + 1, JPEG_IN_TIFF, &jpeg, format, from, count, to, size);
}

/* ------------------------------------------------------------------------------------------------- all of them */

/* In the order of `KINDS` in core.py. */
static const decoder_t DECODERS[] = {decode_raw, decode_blosc, decode_zstd, decode_zlib, decode_lzw, decode_jpeg};
#define KINDS ((int64_t)(sizeof(DECODERS) / sizeof(DECODERS[0])))
enum { RAW, BLOSC, ZSTD, ZLIB, LZW_STRIP, JPEG };

/* Returns True if the functions that a kind needs were found. */
static int is_bound(int64_t kind) {
    switch (kind) {
    case BLOSC: return library.blosc_decompress_ctx != NULL;
    case ZSTD:
        return library.ZSTD_createDCtx != NULL && library.ZSTD_decompressDCtx != NULL && library.ZSTD_initDStream != NULL &&
               library.ZSTD_decompressStream != NULL;
    case ZLIB: return library.libdeflate_alloc_decompressor != NULL && library.libdeflate_zlib_decompress != NULL;
    case LZW_STRIP:
    case JPEG:
        return library.TIFFOpenOptionsAlloc != NULL && library.TIFFOpenOptionsFree != NULL &&
               library.TIFFOpenOptionsSetErrorHandlerExtR != NULL &&
               library.TIFFOpenOptionsSetWarningHandlerExtR != NULL && library.TIFFClientOpenExt != NULL &&
               library.TIFFSetField != NULL && library.TIFFReadFromUserBuffer != NULL && library.TIFFClose != NULL;
    default: return kind == RAW;
    }
}

/* -------------------------------------------------------------------------------------------- bytes and predictors */

/* Sums of neighbours: out[i] = in[i] + out[i - lag] along a row of `count` numbers; `in` may be `out`. */
#define UNDO_DELTA(name, type)                                                                                         \
    static void name(const uint8_t *in, uint8_t *out, size_t count, size_t lag) {                                      \
        type before, value;                                                                                            \
        for (size_t first = 0; first < lag && first < count; first++) {                                                \
            before = 0;                                                                                                \
            for (size_t i = first; i < count; i += lag) {                                                              \
                memcpy(&value, in + i * sizeof(type), sizeof(type));                                                   \
                before = (type)(before + value);                                                                       \
                memcpy(out + i * sizeof(type), &before, sizeof(type));                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }
UNDO_DELTA(undo_delta_16_any, uint16_t)
UNDO_DELTA(undo_delta_32, uint32_t)
UNDO_DELTA(undo_delta_64, uint64_t)
UNDO_DELTA(undo_delta_8_any, uint8_t)

#ifdef HAS_SSE2
/*
 * The same for pixels of `LAG` bytes, as many at a time as fit 16 bytes: their sums by doubling, then what came before.
 * The sum of all of them, repeated, is found apart from that, so that one addition is all that a step waits for.
 */
#define UNDO_DELTA_SSE(name, type, add, LAG)                                                                           \
    static void name(const uint8_t *in, uint8_t *out, size_t count) {                                                  \
        enum { STEP = 16 / (LAG) * (LAG), LAST = STEP - (LAG) };                                                       \
        __m128i before = _mm_setzero_si128(), mask = _mm_srli_si128(_mm_set1_epi8(-1), 16 - (LAG));                    \
        size_t bytes = count * sizeof(type), i = 0;                                                                    \
        __m128i x, next = bytes < 16 ? before : _mm_loadu_si128((const __m128i *)in);                                  \
        for (; i + 16 <= bytes; i += STEP) {                                                                           \
            x = next;                                                                                                  \
            if (i + STEP + 16 <= bytes) /* before its first byte may be stored to, which it would wait for */          \
                next = _mm_loadu_si128((const __m128i *)(in + i + STEP));                                              \
            __m128i spare = _mm_andnot_si128(_mm_srli_si128(_mm_set1_epi8(-1), 16 - STEP), x);                         \
            x = add(x, _mm_slli_si128(x, (LAG)));                                                                      \
            if ((LAG) < 8)                                                                                             \
                x = add(x, _mm_slli_si128(x, (LAG) < 8 ? 2 * (LAG) : 0));                                              \
            if ((LAG) < 4)                                                                                             \
                x = add(x, _mm_slli_si128(x, (LAG) < 4 ? 4 * (LAG) : 0));                                              \
            if ((LAG) < 2)                                                                                             \
                x = add(x, _mm_slli_si128(x, (LAG) < 2 ? 8 * (LAG) : 0));                                              \
            __m128i last = _mm_and_si128(_mm_srli_si128(x, LAST), mask);                                               \
            last = _mm_or_si128(last, _mm_slli_si128(last, (LAG)));                                                    \
            if ((LAG) < 8)                                                                                             \
                last = _mm_or_si128(last, _mm_slli_si128(last, (LAG) < 8 ? 2 * (LAG) : 0));                            \
            if ((LAG) < 4)                                                                                             \
                last = _mm_or_si128(last, _mm_slli_si128(last, (LAG) < 4 ? 4 * (LAG) : 0));                            \
            if ((LAG) < 2)                                                                                             \
                last = _mm_or_si128(last, _mm_slli_si128(last, (LAG) < 2 ? 8 * (LAG) : 0));                            \
            x = add(x, before);                                                                                        \
            before = add(before, last);                                                                                \
            if (STEP < 16) /* the next step begins with what is left, as it was */                                     \
                x = _mm_or_si128(_mm_and_si128(x, _mm_srli_si128(_mm_set1_epi8(-1), 16 - STEP)), spare);               \
            _mm_storeu_si128((__m128i *)(out + i), x);                                                                 \
        }                                                                                                              \
        type sums[(LAG) / sizeof(type)];                                                                               \
        memset(sums, 0, sizeof(sums));                                                                                 \
        if (i)                                                                                                         \
            memcpy(sums, out + i - (LAG), sizeof(sums));                                                               \
        for (size_t k = 0; i < bytes; i += sizeof(type), k = (k + 1) % ((LAG) / sizeof(type))) {                       \
            type value;                                                                                                \
            memcpy(&value, in + i, sizeof(type));                                                                      \
            sums[k] = (type)(sums[k] + value);                                                                         \
            memcpy(out + i, sums + k, sizeof(type));                                                                   \
        }                                                                                                              \
    }
UNDO_DELTA_SSE(undo_delta_8_1, uint8_t, _mm_add_epi8, 1)
UNDO_DELTA_SSE(undo_delta_8_3, uint8_t, _mm_add_epi8, 3)
UNDO_DELTA_SSE(undo_delta_8_4, uint8_t, _mm_add_epi8, 4)
UNDO_DELTA_SSE(undo_delta_16_1, uint16_t, _mm_add_epi16, 2)
UNDO_DELTA_SSE(undo_delta_16_3, uint16_t, _mm_add_epi16, 6)
#endif

static void undo_delta_8(const uint8_t *in, uint8_t *out, size_t count, size_t lag) {
#ifdef HAS_SSE2
    switch (lag) {
    case 1: undo_delta_8_1(in, out, count); return;
    case 3: undo_delta_8_3(in, out, count); return;
    case 4: undo_delta_8_4(in, out, count); return;
    }
#endif
    undo_delta_8_any(in, out, count, lag);
}

static void undo_delta_16(const uint8_t *in, uint8_t *out, size_t count, size_t lag) {
#ifdef HAS_SSE2
    switch (lag) {
    case 1: undo_delta_16_1(in, out, count); return;
    case 3: undo_delta_16_3(in, out, count); return;
    }
#endif
    undo_delta_16_any(in, out, count, lag);
}

static void undo_delta(const uint8_t *in, uint8_t *out, size_t item, size_t count, size_t lag) {
    switch (item) {
    case 1: undo_delta_8(in, out, count, lag); break;
    case 2: undo_delta_16(in, out, count, lag); break;
    case 4: undo_delta_32(in, out, count, lag); break;
    default: undo_delta_64(in, out, count, lag);
    }
}

static void swap_bytes(const uint8_t *in, uint8_t *out, size_t unit, size_t bytes) {
    uint8_t number[8];
    for (size_t i = 0; i < bytes; i += unit) {
        memcpy(number, in + i, unit);
        for (size_t k = 0; k < unit; k++)
            out[i + k] = number[unit - 1 - k];
    }
}

static int is_little_endian(void) {
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first;
}

/*
 * Floating-point predictor (TIFF technical note 3): a row holds the first, most significant bytes of all its numbers,
 * then their second ones and so on, as differences. `sums` has the room of a row.
 */
static void undo_floating(const uint8_t *in, uint8_t *out, uint8_t *sums, size_t item, size_t count, size_t lag) {
    undo_delta_8(in, sums, item * count, lag);
    for (size_t k = 0; k < item; k++) {
        uint8_t *to = out + (is_little_endian() ? item - 1 - k : k);
        for (size_t i = 0; i < count; i++)
            to[i * item] = sums[k * count + i];
    }
}

/* The rows and columns of a chunk that its parts want, in numbers; all of them where it has no rows. */
typedef struct {
    size_t first, stop, columns;
} wanted_t;

/* Undoes what was done to the numbers of the rows wanted; `in` may be `out`. Returns 0 if there is no memory. */
static int undo_rows(scratch_t *scratch, const int64_t *format, const wanted_t *wanted, const uint8_t *in, uint8_t *out) {
    size_t item = (size_t)format[ITEM], lag = (size_t)format[LAG], row = item * (size_t)format[ROW];
    uint8_t *sums = format[PREDICTOR] == FLOATING ? buffer(scratch, SPARE, row) : NULL;
    if (format[PREDICTOR] == FLOATING && sums == NULL)
        return 0;
    for (size_t k = wanted->first; k < wanted->stop; k++) {
        const uint8_t *from = in + k * row;
        uint8_t *to = out + k * row;
        if (format[SWAP]) {
            swap_bytes(from, to, (size_t)format[SWAP], wanted->columns * item);
            from = to;
        }
        if (format[PREDICTOR] == HORIZONTAL)
            undo_delta(from, to, item, wanted->columns, lag);
        else if (format[PREDICTOR] == FLOATING)
            undo_floating(from, to, sums, item, (size_t)format[ROW], lag);
    }
    return 1;
}

/* -------------------------------------------------------------------------------------------------- the copies */

#define COPY_ROW(type)                                                                                                 \
    for (int64_t i = 0; i < count; i++, to += to_stride, from += from_stride) {                                        \
        type value;                                                                                                    \
        memcpy(&value, from, sizeof(type));                                                                            \
        memcpy(to, &value, sizeof(type));                                                                              \
    }

/* One channel of pixels of `LAG` bytes: five times as fast where the compiler may use an instruction for shuffling. */
#define COPY_CHANNEL(name, LAG)                                                                                        \
    static void name(char *restrict to, const char *restrict from, int64_t count) {                                    \
        for (int64_t i = 0; i < count; i++)                                                                            \
            to[i] = from[(LAG) * i];                                                                                   \
    }
#if defined(__GNUC__) && defined(__x86_64__)
#define can_shuffle() __builtin_cpu_supports("ssse3")
__attribute__((target("ssse3"))) COPY_CHANNEL(copy_channel_3, 3)
__attribute__((target("ssse3"))) COPY_CHANNEL(copy_channel_4, 4)
#else
#define can_shuffle() 1
COPY_CHANNEL(copy_channel_3, 3)
COPY_CHANNEL(copy_channel_4, 4)
#endif

static void copy_row(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t count, int64_t item) {
    if (to_stride == item && from_stride == item)
        memcpy(to, from, (size_t)(count * item));
    else if (item == 1 && to_stride == 1 && from_stride == 3 && can_shuffle())
        copy_channel_3(to, from, count);
    else if (item == 1 && to_stride == 1 && from_stride == 4 && can_shuffle())
        copy_channel_4(to, from, count);
    else if (item == 1 && to_stride == 1 && from_stride == 0)
        memset(to, *from, (size_t)count);
    else
        switch (item) {
        case 1: COPY_ROW(uint8_t) break;
        case 2: COPY_ROW(uint16_t) break;
        case 4: COPY_ROW(uint32_t) break;
        case 8: COPY_ROW(uint64_t) break;
        default:
            for (int64_t i = 0; i < count; i++, to += to_stride, from += from_stride)
                memcpy(to, from, (size_t)item);
        }
}

typedef struct {
    int64_t size, to, from;
} axis_t;

/* Copies a box of any strides; axes that continue one another are one. */
static void copy_box(char *to, const char *from, const axis_t *box, int axes, int64_t item) {
    axis_t kept[MOST_AXES];
    int64_t index[MOST_AXES] = {0};
    int n = 0;
    for (int d = 0; d < axes; d++) {
        axis_t axis = box[d];
        if (axis.size == 0)
            return;
        if (axis.size == 1)
            continue;
        if (n && kept[n - 1].to == axis.size * axis.to && kept[n - 1].from == axis.size * axis.from)
            axis.size *= kept[--n].size;
        kept[n++] = axis;
    }
    axis_t row = {1, item, item};
    if (n)
        row = kept[--n];
    for (;;) {
        copy_row(to, row.to, from, row.from, row.size, item);
        int d = n - 1;
        for (; d >= 0; d--) {
            to += kept[d].to;
            from += kept[d].from;
            if (++index[d] < kept[d].size)
                break;
            to -= kept[d].size * kept[d].to;
            from -= kept[d].size * kept[d].from;
            index[d] = 0;
        }
        if (d < 0)
            return;
    }
}

/* Where a part goes and comes from: `box` of each axis, `*to`; returns the place of its first pixel in the chunk. */
static int64_t place_part(const plan_t *plan, const int64_t *format, const int64_t *part, axis_t *box, char **to) {
    int axes = plan->axes;
    const int64_t *strides = format + FORMAT_HEAD + axes, *steps = plan->steps + part[WINDOW] * axes;
    const int64_t *source = part + PART_HEAD, *target = source + axes, *size = target + axes;
    const output_t *output = plan->outputs + part[WINDOW];
    int64_t from = 0;
    *to = output->base;
    for (int d = 0; d < axes; d++) {
        box[d].size = size[d];
        box[d].to = output->strides[d];
        box[d].from = strides[d] * steps[d];
        *to += target[d] * output->strides[d];
        from += source[d] * strides[d];
    }
    return from;
}

/* ---------------------------------------------------------------------------------------------------- one chunk */

static size_t decoded_size(const plan_t *plan, const int64_t *format) {
    size_t size = (size_t)format[ITEM];
    for (int d = 0; d < plan->axes; d++)
        size *= (size_t)format[FORMAT_HEAD + d];
    return size;
}

/* Returns the part of the output that is exactly this chunk, as it is laid out; NULL if there is none. */
static uint8_t *exact_target(const plan_t *plan, const int64_t *chunk, const int64_t *format) {
    axis_t box[MOST_AXES];
    char *to;
    if (chunk[STOP] - chunk[FIRST] != 1)
        return NULL;
    place_part(plan, format, part_of(plan, chunk[FIRST]), box, &to);
    for (int d = 0; d < plan->axes; d++)
        if (box[d].size != format[FORMAT_HEAD + d] || (box[d].size > 1 && box[d].to != box[d].from))
            return NULL;
    return (uint8_t *)to;
}

/* Of a chunk of `size` bytes. */
static wanted_t wanted_rows(const plan_t *plan, const int64_t *chunk, const int64_t *format, size_t size) {
    int axes = plan->axes;
    const int64_t *strides = format + FORMAT_HEAD + axes;
    size_t item = (size_t)format[ITEM], row = item * (size_t)format[ROW];
    wanted_t all = {0, row ? size / row : 1, (size_t)format[ROW]}, found = {SIZE_MAX, 0, 0};
    if (!row)
        return all;
    for (int64_t p = chunk[FIRST]; p < chunk[STOP]; p++) {
        const int64_t *part = part_of(plan, p), *source = part + PART_HEAD, *count = source + 2 * axes;
        const int64_t *steps = plan->steps + part[WINDOW] * axes;
        size_t low = 0, high = 0, column = 0; /* bytes */
        int empty = 0;
        for (int d = 0; d < axes; d++) {
            size_t stride = (size_t)strides[d];
            size_t last = (size_t)(source[d] + (count[d] - 1) * steps[d]) * stride;
            empty |= count[d] == 0;
            low += (size_t)source[d] * stride;
            high += last;
            if (stride < row)
                column += last;
        }
        if (empty)
            continue;
        if (low / row < found.first)
            found.first = low / row;
        if (high / row + 1 > found.stop)
            found.stop = high / row + 1;
        if (column / item + 1 > found.columns)
            found.columns = column / item + 1;
    }
    return found.stop && found.columns <= all.columns ? found : all;
}

/* Bytes `low` to `high` of a chunk, if it has more; they are where they are in all of them. */
static const uint8_t *encoded_bytes(scratch_t *scratch, const int64_t *chunk, int64_t low, int64_t high) {
    if (chunk[SOURCE] < 0)
        return (const uint8_t *)(uintptr_t)chunk[OFFSET];
    uint8_t *to = buffer(scratch, ENCODED, (size_t)chunk[LENGTH]);
    int64_t stop = high < chunk[LENGTH] ? high : chunk[LENGTH];
    for (int64_t done = low, more; to != NULL && done < stop; done += more) {
        more = read_at((int)chunk[SOURCE], to + done, stop - done, chunk[OFFSET] + done);
        if (more <= 0)
            return NULL;
    }
    return to;
}

/* Returns 0 where the chunk is damaged, or is not for this module to decode. */
static int decode_chunk(const plan_t *plan, const int64_t *chunk, scratch_t *scratch) {
    const int64_t *format = format_of(plan, chunk[FORMAT]);
    axis_t box[MOST_AXES];
    char *to;
    if (chunk[LENGTH] < 0) { /* not stored */
        for (int64_t p = chunk[FIRST]; p < chunk[STOP]; p++) {
            place_part(plan, format, part_of(plan, p), box, &to);
            for (int d = 0; d < plan->axes; d++)
                box[d].from = 0;
            copy_box(to, (const char *)(format + FILL), box, plan->axes, format[ITEM]);
        }
        return 1;
    }
    size_t size = decoded_size(plan, format), count = (size_t)chunk[LENGTH];
    size_t row = (size_t)format[ROW] * (size_t)format[ITEM];
    wanted_t wanted = wanted_rows(plan, chunk, format, size);
    size_t enough = format[EARLY] ? wanted.stop * row : size; /* bytes that are decoded */
    int in_part = format[EARLY] && format[KIND] == RAW && !format[CRC];
    const uint8_t *from = encoded_bytes(scratch, chunk, in_part ? (int64_t)(wanted.first * row) : 0,
                                        in_part ? (int64_t)enough : INT64_MAX);
    if (from == NULL)
        return 0;
    if (format[CRC]) {
        if (count < CRC_BYTES || library.crc32c_value(from, count) != CRC_RESIDUE)
            return 0;
        count -= CRC_BYTES;
    }
    uint8_t *direct = exact_target(plan, chunk, format);
    uint8_t *target = direct == NULL || format[PREDICTOR] ? buffer(scratch, DECODED, size) : direct;
    if (target == NULL)
        return 0;
    const uint8_t *pixels = DECODERS[format[KIND]](scratch, format, from, count, target, enough, enough == size);
    if (pixels == NULL)
        return 0;
    if (format[PREDICTOR] || format[SWAP]) {
        uint8_t *done = direct != NULL ? direct : target;
        if (!undo_rows(scratch, format, &wanted, pixels, done))
            return 0;
        pixels = done;
    }
    if (pixels == direct)
        return 1;
    for (int64_t p = chunk[FIRST]; p < chunk[STOP]; p++) {
        int64_t start = place_part(plan, format, part_of(plan, p), box, &to);
        copy_box(to, (const char *)pixels + start, box, plan->axes, format[ITEM]);
    }
    return 1;
}

/* -------------------------------------------------------------------------------------------------- the threads */

typedef struct job {
    const plan_t *plan;
    counter_t next;    /* chunk to take */
    int64_t together;  /* chunks that a thread takes at once */
    int wanted;        /* threads that may still join */
    counter_t helpers; /* threads at work, besides the caller's; changed under the mutex */
    cond_t done;
    struct job *following;
} job_t;

static struct {
    mutex_t mutex; /* of all that follows */
    cond_t work;
    job_t *jobs; /* that want threads */
    counter_t published; /* jobs so far; read without the mutex, too */
    int threaded;        /* the last job had use for threads; guarded by Python's lock */
    int expected;        /* a thread was called for a job that will be published soon */
    int threads;
    scratch_t *idle;
} pool = {MUTEX_INIT, COND_INIT, NULL, 0, 0, 0, 0, NULL};

static int64_t pool_process = 0; /* which process the threads belong to; guarded by Python's lock */

/* Forgets the threads of a parent process, and whatever its other threads held when it forked. */
static void adopt_pool(void) {
    int64_t here = process_id();
    if (pool_process != here) {
        mutex_t mutex = MUTEX_INIT;
        cond_t work = COND_INIT;
        pool.mutex = mutex;
        pool.work = work;
        pool.jobs = NULL;
        pool.threads = pool.threaded = pool.expected = 0;
        pool.idle = NULL;
        pool_process = here;
    }
}

/* The mutex is held. */
static scratch_t *take_scratch(void) {
    scratch_t *scratch = pool.idle;
    if (scratch == NULL)
        return calloc(1, sizeof(scratch_t));
    pool.idle = scratch->next;
    return scratch;
}

/* The mutex is held. */
static void return_scratch(scratch_t *scratch) {
    if (scratch == NULL)
        return;
    for (int k = 0; k < 3; k++)
        if (scratch->room[k] > KEPT_BYTES) {
            free(scratch->memory[k]);
            scratch->memory[k] = NULL;
            scratch->room[k] = 0;
        }
    scratch->next = pool.idle;
    pool.idle = scratch;
}

/* Chunks that a thread has taken and not decoded yet. */
typedef struct {
    int64_t next, stop;
} taken_t;

/* Decodes the next chunk; returns 0 if there is none. */
static int decode_next(job_t *job, taken_t *taken, scratch_t *scratch) {
    const plan_t *plan = job->plan;
    if (taken->next == taken->stop) {
        taken->stop = counter_add(&job->next, job->together);
        taken->next = taken->stop - job->together;
    }
    int64_t k = taken->next++;
    if (k >= plan->chunk_count)
        return 0;
    plan->damaged[k] = scratch == NULL || !decode_chunk(plan, plan->chunks + k * CHUNK_WIDTH, scratch);
    return 1;
}

/* Waits for a while until a counter is no longer what it was. */
static void await_change(counter_t *counter, int64_t seen) {
    int64_t until = microseconds() + AWAKE_US;
    while (counter_get(counter) == seen && microseconds() < until)
        yield_cpu();
}

static void *worker(void *unused) {
    (void)unused;
    int awake = 0;
    mutex_lock(&pool.mutex);
    for (;;) {
        job_t *job = pool.jobs;
        if (job == NULL) {
            if (awake) {
                int64_t seen = counter_get(&pool.published);
                mutex_unlock(&pool.mutex);
                await_change(&pool.published, seen);
                mutex_lock(&pool.mutex);
            } else
                cond_wait(&pool.work, &pool.mutex);
            awake = pool.expected;
            pool.expected = 0;
            continue;
        }
        awake = 1;
        if (--job->wanted == 0)
            pool.jobs = job->following;
        counter_add(&job->helpers, 1);
        scratch_t *scratch = take_scratch();
        mutex_unlock(&pool.mutex);
        taken_t taken = {0, 0};
        while (scratch != NULL && decode_next(job, &taken, scratch)) {
        }
        mutex_lock(&pool.mutex);
        return_scratch(scratch);
        if (counter_add(&job->helpers, -1) == 0)
            cond_signal(&job->done);
    }
    return NULL;
}

/* Asks for threads; the mutex is held. */
static void publish(job_t *job) {
    while (pool.threads < job->wanted && start_thread())
        pool.threads++;
    if (pool.threads < job->wanted)
        job->wanted = pool.threads;
    if (job->wanted == 0)
        return;
    job_t **last = &pool.jobs;
    while (*last != NULL)
        last = &(*last)->following;
    *last = job;
    counter_add(&pool.published, 1);
    for (int k = 0; k < job->wanted; k++)
        cond_signal(&pool.work);
}

/* Asks for no more threads; the mutex is held. */
static void withdraw(job_t *job) {
    for (job_t **at = &pool.jobs; *at != NULL; at = &(*at)->following)
        if (*at == job) {
            *at = job->following;
            return;
        }
}

/* Returns -1 with an exception set if it was interrupted. Python's lock is held before and after. */
static int run(const plan_t *plan, int helpers, PyObject *meanwhile) {
    int64_t share = plan->chunk_count / (16 * (helpers + 1)); /* small enough for all to end at the same time */
    job_t job = {plan, 0, share < 1 ? 1 : share < MOST_TAKEN ? share : MOST_TAKEN, helpers, 0, COND_INIT, NULL};
    taken_t taken = {0, 0};
    int interrupted = 0;
    cond_init(&job.done);
    adopt_pool();
    pool.threaded = helpers > 0;
    mutex_lock(&pool.mutex); /* whoever has it does not wait for Python's lock */
    scratch_t *scratch = take_scratch();
    if (helpers)
        publish(&job);
    mutex_unlock(&pool.mutex);
    if (meanwhile != Py_None) {
        PyObject *result = PyObject_CallNoArgs(meanwhile);
        interrupted = result == NULL;
        Py_XDECREF(result);
    }
    if (interrupted)
        counter_set(&job.next, plan->chunk_count);
    PyThreadState *state = PyEval_SaveThread();
    int64_t looked = microseconds();
    int left = 1, joined = 0, waited = 0;
    while (!joined) {
        if (left)
            left = decode_next(&job, &taken, scratch);
        else {
            mutex_lock(&pool.mutex);
            withdraw(&job);
            int64_t busy = counter_get(&job.helpers);
            if (busy == 1 && !waited) { /* with its last chunk, most likely */
                mutex_unlock(&pool.mutex);
                await_change(&job.helpers, busy);
                mutex_lock(&pool.mutex);
                waited = 1;
            } else if (busy)
                cond_wait_ms(&job.done, &pool.mutex, SIGNALS_MS);
            joined = counter_get(&job.helpers) == 0;
            if (joined)
                return_scratch(scratch);
            mutex_unlock(&pool.mutex);
        }
        int64_t now = joined ? looked : microseconds();
        if (now - looked >= SIGNALS_MS * 1000) {
            looked = now;
            PyEval_RestoreThread(state);
            if (!interrupted && PyErr_CheckSignals() < 0) {
                interrupted = 1;
                counter_set(&job.next, plan->chunk_count);
            }
            state = PyEval_SaveThread();
        }
    }
    PyEval_RestoreThread(state);
    cond_destroy(&job.done);
    return interrupted ? -1 : 0;
}

/* --------------------------------------------------------------------------------------------------- for Python */

static int refuse(const char *message) {
    PyErr_SetString(PyExc_ValueError, message);
    return -1;
}

/* Sets an exception and returns -1 if the rows of a chunk of `count` numbers are none, or not what is done to them. */
static int check_rows(const int64_t *format, int64_t count) {
    int64_t item = format[ITEM], row = format[ROW], lag = format[LAG], swap = format[SWAP];
    int by_rows = format[PREDICTOR] || swap || format[EARLY] || format[KIND] == JPEG;
    if (by_rows && (row < 1 || lag < 1 || count % row || row % lag))
        return refuse("the rows of a chunk are none");
    if (format[PREDICTOR] < NO_PREDICTOR || format[PREDICTOR] > FLOATING || (format[PREDICTOR] && item > 8))
        return refuse("unknown predictor");
    if (swap && (swap < 2 || swap > 8 || swap & (swap - 1) || item % swap))
        return refuse("the order of bytes is none");
    if (format[KIND] == JPEG && (item != 1 || (lag != 1 && lag != 3) || (format[COLOUR] && lag != 3)))
        return refuse("a JPEG has 1 or 3 samples of 8 bits");
    if (format[TABLES_LENGTH] < 0 || format[TABLES_LENGTH] > MOST_TABLES || !format[TABLES] != !format[TABLES_LENGTH])
        return refuse("the tables of JPEGs are none");
    return 0;
}

/* Sets an exception and returns -1 if a table names what is not there, or a part lies outside a chunk or an output. */
static int check_plan(const plan_t *plan) {
    int axes = plan->axes;
    for (int64_t k = 0; k < plan->format_count; k++) {
        const int64_t *format = format_of(plan, k), *shape = format + FORMAT_HEAD, *strides = shape + axes;
        int64_t item = format[ITEM], size = item, last = 0;
        if (format[KIND] < 0 || format[KIND] >= KINDS || !is_bound(format[KIND]))
            return refuse("unknown kind of codec");
        if (format[CRC] && library.crc32c_value == NULL)
            return refuse("no function computes checksums");
        if (item != 1 && item != 2 && item != 4 && item != 8 && item != 16)
            return refuse("pixels have 1, 2, 4, 8 or 16 bytes");
        for (int d = 0; d < axes; d++) {
            if (shape[d] < 1 || shape[d] > INT64_MAX / 2 / size)
                return refuse("the shape of a chunk is none");
            if (strides[d] < 0 || (shape[d] > 1 && strides[d] > INT64_MAX / 4 / shape[d]))
                return refuse("the strides of a chunk are none");
            size *= shape[d];
            last += (shape[d] - 1) * strides[d];
            if (last < 0 || last > INT64_MAX / 4)
                return refuse("the strides of a chunk are none");
        }
        if (last + item > size)
            return refuse("the strides of a chunk leave it");
        if (check_rows(format, size / item) < 0)
            return -1;
    }
    for (int64_t k = 0; k < plan->window_count * axes; k++)
        if (plan->steps[k] < 1)
            return refuse("a step is less than 1");
    for (int64_t k = 0; k < plan->chunk_count; k++) {
        const int64_t *chunk = plan->chunks + k * CHUNK_WIDTH;
        if (chunk[FORMAT] < 0 || chunk[FORMAT] >= plan->format_count)
            return refuse("a chunk has an unknown format");
        if (chunk[FIRST] < 0 || chunk[FIRST] > chunk[STOP] || chunk[STOP] > plan->part_count)
            return refuse("a chunk has unknown parts");
        const int64_t *shape = format_of(plan, chunk[FORMAT]) + FORMAT_HEAD;
        for (int64_t p = chunk[FIRST]; p < chunk[STOP]; p++) {
            const int64_t *part = part_of(plan, p);
            if (part[WINDOW] < 0 || part[WINDOW] >= plan->window_count)
                return refuse("a part has an unknown window");
            const int64_t *source = part + PART_HEAD, *target = source + axes, *size = target + axes;
            const int64_t *steps = plan->steps + part[WINDOW] * axes;
            for (int d = 0; d < axes; d++) {
                int64_t room = plan->outputs[part[WINDOW]].shape[d];
                if (size[d] < 0 || target[d] < 0 || target[d] > room || size[d] > room - target[d])
                    return refuse("a part lies outside its window");
                if (source[d] < 0 || source[d] >= shape[d] || (size[d] && (shape[d] - 1 - source[d]) / steps[d] < size[d] - 1))
                    return refuse("a part lies outside its chunk");
            }
        }
    }
    return 0;
}

/* A table of int64 with rows of a given width; sets an exception and returns -1 if it is none. */
static int get_table(PyObject *object, Py_buffer *view, int64_t width, const int64_t **rows, int64_t *count) {
    if (PyObject_GetBuffer(object, view, PyBUF_SIMPLE) < 0)
        return -1;
    *rows = view->buf;
    *count = (int64_t)view->len / (8 * width);
    if (view->len % (8 * width) || (view->len && (uintptr_t)view->buf % 8))
        return refuse("a table has another width");
    return 0;
}

static int get_outputs(PyObject *outputs, int axes, Py_buffer *views, output_t *found, Py_ssize_t count) {
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *object = PyList_GetItem(outputs, k); /* borrowed */
        if (object == NULL || PyObject_GetBuffer(object, views + k, PyBUF_STRIDES | PyBUF_WRITABLE) < 0)
            return -1;
        Py_buffer *view = views + k;
        if (view->ndim > axes)
            return refuse("an output has too many axes");
        output_t *output = found + k;
        output->base = view->buf;
        for (int d = 0; d < axes; d++) {
            int own = d - (axes - view->ndim); /* the last axes are its own */
            output->shape[d] = own < 0 ? 1 : view->shape[own];
            output->strides[d] = own < 0 ? 0 : view->strides[own];
        }
    }
    return 0;
}

/* Pixels of an output must be of the size that its parts have. */
static int check_items(const plan_t *plan, const Py_buffer *views) {
    for (int64_t k = 0; k < plan->chunk_count; k++) {
        const int64_t *chunk = plan->chunks + k * CHUNK_WIDTH;
        for (int64_t p = chunk[FIRST]; p < chunk[STOP]; p++)
            if (views[part_of(plan, p)[WINDOW]].itemsize != format_of(plan, chunk[FORMAT])[ITEM])
                return refuse("pixels of an output have another size than those of its chunks");
    }
    return 0;
}

static PyObject *damaged_chunks(const plan_t *plan) {
    PyObject *found = PyList_New(0);
    for (int64_t k = 0; found != NULL && k < plan->chunk_count; k++) {
        if (!plan->damaged[k])
            continue;
        PyObject *number = PyLong_FromLongLong(k);
        if (number == NULL || PyList_Append(found, number) < 0)
            Py_CLEAR(found);
        Py_XDECREF(number);
    }
    return found;
}

PyDoc_STRVAR(decode_doc, "decode(axes, formats, steps, outputs, chunks, parts, threads, meanwhile=None)\n--\n\n"
                         "Decode the chunks of a flat plan; return the numbers of those that could not be. `meanwhile` is "
                         "called once other threads have begun.");

static PyObject *decode(PyObject *module, PyObject *args) {
    (void)module;
    plan_t plan = {0};
    Py_buffer tables[4] = {{0}};
    PyObject *formats, *steps, *outputs, *chunks, *parts, *meanwhile = Py_None, *result = NULL;
    int threads;
    if (!PyArg_ParseTuple(args, "iOOO!OOi|O", &plan.axes, &formats, &steps, &PyList_Type, &outputs, &chunks, &parts,
                          &threads, &meanwhile))
        return NULL;
    if (plan.axes < 1 || plan.axes > MOST_AXES) {
        refuse("a plan has 1 to 16 axes");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(outputs);
    Py_buffer *views = calloc((size_t)count + 1, sizeof(Py_buffer));
    plan.outputs = calloc((size_t)count + 1, sizeof(output_t));
    if (views == NULL || plan.outputs == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (get_table(formats, tables, FORMAT_HEAD + 2 * plan.axes, &plan.formats, &plan.format_count) < 0 ||
        get_table(steps, tables + 1, plan.axes, &plan.steps, &plan.window_count) < 0 ||
        get_table(chunks, tables + 2, CHUNK_WIDTH, &plan.chunks, &plan.chunk_count) < 0 ||
        get_table(parts, tables + 3, PART_HEAD + 3 * plan.axes, &plan.parts, &plan.part_count) < 0 ||
        get_outputs(outputs, plan.axes, views, plan.outputs, count) < 0)
        goto done;
    if (plan.window_count != count) {
        refuse("there are not as many steps as outputs");
        goto done;
    }
    if (check_plan(&plan) < 0 || check_items(&plan, views) < 0)
        goto done;
    plan.damaged = calloc((size_t)plan.chunk_count + 1, 1);
    if (plan.damaged == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (run(&plan, threads > 1 ? threads - 1 : 0, meanwhile) == 0)
        result = damaged_chunks(&plan);
done:
    for (int k = 0; k < 4; k++)
        if (tables[k].obj != NULL)
            PyBuffer_Release(tables + k);
    for (Py_ssize_t k = 0; views != NULL && k < count; k++)
        if (views[k].obj != NULL)
            PyBuffer_Release(views + k);
    free(views);
    free(plan.outputs);
    free(plan.damaged);
    return result;
}

/* Columns of the tables of `cut`. */
enum { ARRAY, SHARDS, CUT_HEAD };                /* then the start, then the stop */
enum { SHARD_FILE, SHARD_INDEX, SHARD_WIDTH };   /* the index is an address; a file of -1 means that there is no shard */

/* One window and its array, along each axis. */
typedef struct {
    int64_t first[MOST_AXES], count[MOST_AXES]; /* chunks */
    int64_t first_shard[MOST_AXES], shards[MOST_AXES];
    int64_t chunks, shard_count;
} cut_t;

static int measure_cut(const int64_t *window, const int64_t *array, int axes, cut_t *cut) {
    const int64_t *start = window + CUT_HEAD, *stop = start + axes, *shape = array, *per_shard = array + axes;
    cut->chunks = cut->shard_count = 1;
    for (int d = 0; d < axes; d++) {
        if (start[d] < 0 || shape[d] < 1 || per_shard[d] < 1 || stop[d] > INT64_MAX / 2)
            return refuse("a window lies outside its array");
        int64_t end = stop[d] > start[d] ? (stop[d] - 1) / shape[d] + 1 : start[d] / shape[d];
        cut->first[d] = start[d] / shape[d];
        cut->count[d] = end - cut->first[d];
        cut->first_shard[d] = cut->first[d] / per_shard[d];
        cut->shards[d] = end > cut->first[d] ? (end - 1) / per_shard[d] + 1 - cut->first_shard[d] : 0;
        if (cut->count[d] && cut->chunks > ((int64_t)1 << 40) / cut->count[d])
            return refuse("a window has too many chunks");
        cut->chunks *= cut->count[d];
        cut->shard_count *= cut->shards[d];
    }
    return 0;
}

/* Writes the rows of all chunks of a window, which have one part each; `number` is that of the first. */
static void write_cut(const int64_t *window, int64_t window_number, const int64_t *array, const int64_t *shards, int axes,
                      const cut_t *cut, int64_t number, int64_t *chunk, int64_t *part) {
    const int64_t *start = window + CUT_HEAD, *stop = start + axes, *shape = array, *per_shard = array + axes;
    int64_t index[MOST_AXES] = {0};
    for (int64_t n = 0; n < cut->chunks; n++, chunk += CHUNK_WIDTH, part += PART_HEAD + 3 * axes) {
        int64_t shard = 0, within = 0;
        for (int d = 0; d < axes; d++) {
            int64_t at = cut->first[d] + index[d], low = at * shape[d], from = start[d] > low ? start[d] : low;
            int64_t end = stop[d] < low + shape[d] ? stop[d] : low + shape[d];
            shard = shard * cut->shards[d] + at / per_shard[d] - cut->first_shard[d];
            within = within * per_shard[d] + at % per_shard[d];
            part[PART_HEAD + d] = from - low;
            part[PART_HEAD + axes + d] = from - start[d];
            part[PART_HEAD + 2 * axes + d] = end - from;
        }
        part[WINDOW] = window_number;
        const int64_t *place = shards + (window[SHARDS] + shard) * SHARD_WIDTH;
        chunk[SOURCE] = place[SHARD_FILE];
        chunk[OFFSET] = chunk[LENGTH] = -1;
        if (place[SHARD_FILE] >= 0)
            memcpy(chunk + OFFSET, (const uint8_t *)(uintptr_t)place[SHARD_INDEX] + 16 * within, 16);
        chunk[FORMAT] = window[ARRAY];
        chunk[FIRST] = number + n;
        chunk[STOP] = number + n + 1;
        for (int d = axes - 1; d >= 0 && ++index[d] == cut->count[d]; d--)
            index[d] = 0;
    }
}

PyDoc_STRVAR(cut_doc, "cut(axes, windows, arrays, shards)\n--\n\n"
                      "Cut windows at the borders of chunks; return tables of chunks and of parts.");

static PyObject *cut_windows(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer tables[3] = {{0}};
    PyObject *objects[3], *result = NULL, *chunks = NULL, *parts = NULL;
    const int64_t *windows, *arrays, *shards;
    int64_t window_count, array_count, shard_count, total = 0;
    cut_t cut;
    int axes;
    if (!PyArg_ParseTuple(args, "iOOO", &axes, objects, objects + 1, objects + 2))
        return NULL;
    if (axes < 1 || axes > MOST_AXES) {
        refuse("a plan has 1 to 16 axes");
        return NULL;
    }
    if (get_table(objects[0], tables, CUT_HEAD + 2 * axes, &windows, &window_count) < 0 ||
        get_table(objects[1], tables + 1, 2 * axes, &arrays, &array_count) < 0 ||
        get_table(objects[2], tables + 2, SHARD_WIDTH, &shards, &shard_count) < 0)
        goto done;
    for (int64_t k = 0; k < window_count; k++) {
        const int64_t *window = windows + k * (CUT_HEAD + 2 * axes);
        if (window[ARRAY] < 0 || window[ARRAY] >= array_count) {
            refuse("a window has an unknown array");
            goto done;
        }
        if (measure_cut(window, arrays + window[ARRAY] * 2 * axes, axes, &cut) < 0)
            goto done;
        if (window[SHARDS] < 0 || cut.shard_count > shard_count || window[SHARDS] > shard_count - cut.shard_count) {
            refuse("a window has unknown shards");
            goto done;
        }
        total += cut.chunks;
    }
    chunks = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(total * CHUNK_WIDTH * 8));
    parts = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(total * (PART_HEAD + 3 * axes) * 8));
    if (chunks == NULL || parts == NULL)
        goto done;
    int64_t *chunk = (int64_t *)PyBytes_AsString(chunks), *part = (int64_t *)PyBytes_AsString(parts), number = 0;
    for (int64_t k = 0; k < window_count; k++) {
        const int64_t *window = windows + k * (CUT_HEAD + 2 * axes), *array = arrays + window[ARRAY] * 2 * axes;
        measure_cut(window, array, axes, &cut);
        write_cut(window, k, array, shards, axes, &cut, number, chunk + number * CHUNK_WIDTH,
                  part + number * (PART_HEAD + 3 * axes));
        number += cut.chunks;
    }
    result = PyTuple_Pack(2, chunks, parts);
done:
    Py_XDECREF(chunks);
    Py_XDECREF(parts);
    for (int k = 0; k < 3; k++)
        if (tables[k].obj != NULL)
            PyBuffer_Release(tables + k);
    return result;
}

PyDoc_STRVAR(expect_doc, "expect()\n--\n\nWake a thread for a plan that is being made, if the one before had use for it.");

static PyObject *expect(PyObject *module, PyObject *nothing) {
    (void)module;
    (void)nothing;
    if (pool.threaded && pool_process == process_id()) {
        mutex_lock(&pool.mutex);
        pool.expected = 1;
        cond_signal(&pool.work);
        mutex_unlock(&pool.mutex);
    }
    Py_RETURN_NONE;
}

/* ------------------------------------------------------------------------------- means of arrays that overlap */

/* Numbers, and classes of so many bytes. */
enum { U1, I1, U2, I2, F4, F8, C1, C2, C4, C8, TYPES };
static const int64_t TYPE_SIZES[TYPES] = {1, 1, 2, 2, 4, 8, 1, 2, 4, 8};
/* What the arrays become before they become the output. */
static const int MEANS[TYPES] = {F4, F4, F4, F4, F4, F8, C1, C2, C4, C8};

/* An array that lies within the output, from a row and a column on. */
typedef struct {
    const char *pixels, *weights;
    int64_t row, column, rows, columns, pixel_stride, weight_stride, type;
} layer_t;

/*
 * Takes a row of pixels into their running mean, of which `total` holds the weights; columns from `touched` on have
 * none yet. An infinite mean stays infinite unless NaN, or the opposite, comes.
 */
#define AVERAGE(NAME, PIXEL, REAL)                                                                                      \
    static void NAME(void *mean_row, float *restrict total, const void *pixel_row, const float *restrict weights,       \
                     int64_t touched, int64_t count) {                                                                  \
        REAL *restrict mean = mean_row;                                                                                 \
        const PIXEL *restrict pixels = pixel_row;                                                                       \
        for (int64_t x = 0; x < touched; x++) {                                                                         \
            REAL pixel = (REAL)pixels[x], old = mean[x], both = pixel + old;                                            \
            total[x] += weights[x];                                                                                     \
            REAL moved = old + (pixel - old) * (REAL)(weights[x] / total[x]);                                           \
            mean[x] = (old - old != 0) & (both == both) ? old : moved;                                                  \
        }                                                                                                               \
        for (int64_t x = touched; x < count; x++) {                                                                     \
            total[x] = weights[x];                                                                                      \
            mean[x] = (REAL)pixels[x];                                                                                  \
        }                                                                                                               \
    }

/* Takes those classes of a row whose weight is the largest so far. */
#define CHOOSE(NAME, PIXEL)                                                                                             \
    static void NAME(void *best_row, float *restrict total, const void *pixel_row, const float *restrict weights,       \
                     int64_t touched, int64_t count) {                                                                  \
        PIXEL *restrict best = best_row;                                                                                \
        const PIXEL *restrict pixels = pixel_row;                                                                       \
        for (int64_t x = 0; x < count; x++) {                                                                           \
            int better = x >= touched || weights[x] > total[x];                                                         \
            total[x] = better ? weights[x] : total[x];                                                                  \
            best[x] = better ? pixels[x] : best[x];                                                                     \
        }                                                                                                               \
    }

/* Rounds a row of means, half to even: behind this number, the last bit of a float is worth 1. */
#define ROUND(NAME, PIXEL)                                                                                              \
    static void NAME(void *out_row, const void *mean_row, int64_t count) {                                              \
        const float *restrict mean = mean_row;                                                                          \
        PIXEL *restrict out = out_row;                                                                                  \
        for (int64_t x = 0; x < count; x++) {                                                                           \
            float shifted = mean[x] + 12582912.0f;                                                                      \
            int32_t bits;                                                                                               \
            memcpy(&bits, &shifted, sizeof(bits));                                                                      \
            out[x] = (PIXEL)(bits - 0x4B400000);                                                                        \
        }                                                                                                               \
    }

#define COPY(NAME, PIXEL)                                                                                               \
    static void NAME(void *out_row, const void *mean_row, int64_t count) {                                              \
        memcpy(out_row, mean_row, (size_t)count * sizeof(PIXEL));                                                       \
    }

AVERAGE(average_u1, uint8_t, float)
AVERAGE(average_i1, int8_t, float)
AVERAGE(average_u2, uint16_t, float)
AVERAGE(average_i2, int16_t, float)
AVERAGE(average_f4, float, float)
AVERAGE(average_f8, double, double)
ROUND(round_u1, uint8_t)
ROUND(round_i1, int8_t)
ROUND(round_u2, uint16_t)
ROUND(round_i2, int16_t)
CHOOSE(choose_1, uint8_t)
CHOOSE(choose_2, uint16_t)
CHOOSE(choose_4, uint32_t)
CHOOSE(choose_8, uint64_t)
COPY(copy_1, uint8_t)
COPY(copy_2, uint16_t)
COPY(copy_4, uint32_t)
COPY(copy_8, uint64_t)

typedef void average_t(void *, float *, const void *, const float *, int64_t, int64_t);
typedef void give_t(void *, const void *, int64_t);
static average_t *const AVERAGES[TYPES] = {average_u1, average_i1, average_u2, average_i2, average_f4,
                                           average_f8, choose_1,   choose_2,   choose_4,   choose_8};
static give_t *const GIVES[TYPES] = {round_u1, round_i1, round_u2, round_i2, copy_4, copy_8, copy_1, copy_2, copy_4, copy_8};

/* Rows of scratch. */
typedef struct {
    char *mean;
    float *total;
    int64_t real; /* bytes of a mean */
} means_t;

static void clear(const means_t *means, int64_t from, int64_t to) {
    if (to > from) {
        memset(means->mean + from * means->real, 0, (size_t)((to - from) * means->real));
        memset(means->total + from, 0, (size_t)(to - from) * sizeof(float));
    }
}

static void blend_row(int64_t y, int64_t width, const layer_t *layers, int64_t count, const means_t *means) {
    int64_t reach = 0; /* no layer has touched columns from here on */
    for (int64_t k = 0; k < count; k++) {
        const layer_t *layer = layers + k;
        int64_t row = y - layer->row, column = layer->column, end = column + layer->columns;
        if (row < 0 || row >= layer->rows)
            continue;
        clear(means, reach, column);
        reach = reach > column ? reach : column;
        AVERAGES[layer->type](means->mean + column * means->real, means->total + column,
                              layer->pixels + row * layer->pixel_stride,
                              (const float *)(const void *)(layer->weights + row * layer->weight_stride),
                              (reach < end ? reach : end) - column, layer->columns);
        reach = reach > end ? reach : end;
    }
    clear(means, reach, width);
}

/* A buffer of rows whose numbers follow one another; sets an exception and returns -1 if it is none. */
static int get_rows(PyObject *object, Py_buffer *view, int writable, int64_t size) {
    if (object == NULL || PyObject_GetBuffer(object, view, PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return -1;
    if (view->ndim != 2 || view->itemsize != size || (view->shape[1] > 1 && view->strides[1] != size))
        return refuse("an array does not have rows of numbers of its type");
    if ((uintptr_t)view->buf % (size_t)size || view->strides[0] % size)
        return refuse("the numbers of an array lie between multiples of their size");
    return 0;
}

PyDoc_STRVAR(blend_doc, "blend(out, type, covered, pixels, weights, table)\n--\n\n"
                        "Write the weighted mean of arrays that overlap, and where there are any.");

static PyObject *blend(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *out, *covered, *pixels, *weights, *objects, *result = NULL;
    Py_buffer own[3] = {{0}}, *table = own, *target = own + 1, *shown = own + 2, *views = NULL;
    const int64_t *rows;
    int64_t count = 0;
    int type;
    layer_t *layers = NULL;
    means_t means = {0};
    if (!PyArg_ParseTuple(args, "OiOO!O!O", &out, &type, &covered, &PyList_Type, &pixels, &PyList_Type, &weights, &objects))
        return NULL;
    if (type < 0 || type >= TYPES) {
        refuse("unknown type");
        return NULL;
    }
    if (get_table(objects, table, 3, &rows, &count) < 0 || get_rows(out, target, 1, TYPE_SIZES[type]) < 0 ||
        get_rows(covered, shown, 1, 1) < 0)
        goto done;
    int64_t height = target->shape[0], width = target->shape[1];
    if (shown->shape[0] != height || shown->shape[1] != width || PyList_Size(pixels) != count || PyList_Size(weights) != count) {
        refuse("arrays that belong together differ in size or number");
        goto done;
    }
    views = calloc((size_t)count * 2 + 1, sizeof(Py_buffer));
    layers = calloc((size_t)count + 1, sizeof(layer_t));
    means.real = TYPE_SIZES[MEANS[type]];
    means.mean = malloc((size_t)(width * means.real) + 1);
    means.total = malloc((size_t)width * sizeof(float) + 1);
    if (views == NULL || layers == NULL || means.mean == NULL || means.total == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (int64_t k = 0; k < count; k++, rows += 3) {
        Py_buffer *pixel = views + 2 * k, *weight = pixel + 1;
        if (rows[2] < 0 || rows[2] >= TYPES || MEANS[rows[2]] != MEANS[type]) {
            refuse("an array has a type that the output is not made of");
            goto done;
        }
        if (get_rows(PyList_GetItem(pixels, (Py_ssize_t)k), pixel, 0, TYPE_SIZES[rows[2]]) < 0 ||
            get_rows(PyList_GetItem(weights, (Py_ssize_t)k), weight, 0, sizeof(float)) < 0)
            goto done;
        int64_t tall = pixel->shape[0], wide = pixel->shape[1];
        if (weight->shape[0] != tall || weight->shape[1] != wide || rows[0] < 0 || rows[1] < 0 || tall > height - rows[0] ||
            wide > width - rows[1]) {
            refuse("an array lies outside the output, or has other weights");
            goto done;
        }
        layers[k] = (layer_t){pixel->buf, weight->buf, rows[0], rows[1], tall, wide, pixel->strides[0], weight->strides[0], rows[2]};
    }
    PyThreadState *state = PyEval_SaveThread();
    for (int64_t y = 0; y < height; y++) {
        blend_row(y, width, layers, count, &means);
        uint8_t *any = (uint8_t *)shown->buf + y * shown->strides[0];
        for (int64_t x = 0; x < width; x++)
            any[x] = means.total[x] > 0;
        GIVES[type]((char *)target->buf + y * target->strides[0], means.mean, width);
    }
    PyEval_RestoreThread(state);
    result = Py_None;
    Py_INCREF(result);
done:
    for (int64_t k = 0; views != NULL && k < 2 * count; k++)
        if (views[k].obj != NULL)
            PyBuffer_Release(views + k);
    for (int k = 0; k < 3; k++)
        if (own[k].obj != NULL)
            PyBuffer_Release(own + k);
    free(views);
    free(layers);
    free(means.mean);
    free(means.total);
    return result;
}

/* ---------------------------------------------------------------------------------------------------- encoding */

enum { BLOSC_HEADER = 16 };

PyDoc_STRVAR(encode_doc, "encode(chunks, wanted, cname, level, shuffle, item, crc)\n--\n\n"
                         "Compress chunks of one size with Blosc; return a list of bytes, None for those not wanted.");

static PyObject *encode(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer chunks, wanted;
    const char *name;
    int level, shuffle, item, crc, failed = 0;
    if (!PyArg_ParseTuple(args, "y*y*siiii", &chunks, &wanted, &name, &level, &shuffle, &item, &crc))
        return NULL;
    size_t number = (size_t)wanted.len, size = number ? (size_t)chunks.len / number : 0, done = 0;
    size_t room = size + BLOSC_HEADER + CRC_BYTES;
    size_t *lengths = calloc(number + 1, sizeof(size_t));
    uint8_t *out = malloc(number * room + 1);
    PyObject *found = NULL;
    if (lengths == NULL || out == NULL)
        PyErr_NoMemory();
    else if (!number || size * number != (size_t)chunks.len || size > INT32_MAX - BLOSC_HEADER || item < 1 ||
             library.blosc_compress_ctx == NULL || (crc && library.crc32c_value == NULL))
        refuse("the chunks have one size, and the functions are bound");
    else {
        Py_BEGIN_ALLOW_THREADS;
        for (size_t k = 0; k < number && !failed; k++) {
            if (!((const char *)wanted.buf)[k])
                continue;
            uint8_t *to = out + done;
            int count = library.blosc_compress_ctx(level, shuffle, (size_t)item, size, (const char *)chunks.buf + k * size,
                                                   to, size + BLOSC_HEADER, name, 0, 1);
            failed = count <= 0;
            lengths[k] = failed ? 0 : (size_t)count;
            if (crc && !failed) {
                uint32_t sum = library.crc32c_value(to, lengths[k]);
                for (int i = 0; i < CRC_BYTES; i++)
                    to[lengths[k]++] = (uint8_t)(sum >> 8 * i);
            }
            done += lengths[k];
        }
        Py_END_ALLOW_THREADS;
        if (failed)
            refuse("Blosc does not know this compressor, level or item");
        else
            found = PyList_New((Py_ssize_t)number);
    }
    const char *from = (const char *)out;
    for (size_t k = 0; found != NULL && k < number; from += lengths[k++]) {
        PyObject *one = lengths[k] ? PyBytes_FromStringAndSize(from, (Py_ssize_t)lengths[k]) : Py_NewRef(Py_None);
        if (one == NULL || PyList_SetItem(found, (Py_ssize_t)k, one))
            Py_CLEAR(found);
    }
    free(out);
    free(lengths);
    PyBuffer_Release(&chunks);
    PyBuffer_Release(&wanted);
    return found;
}

PyDoc_STRVAR(bind_doc, "bind(addresses)\n--\n\nTake the addresses of libraries' functions; 0 leaves one as it is.");

static PyObject *bind(PyObject *module, PyObject *addresses) {
    (void)module;
    uintptr_t found[sizeof(library) / sizeof(void *)];
    Py_ssize_t count = (Py_ssize_t)(sizeof(found) / sizeof(found[0]));
    if (PySequence_Size(addresses) != count) {
        refuse("there is one address per function");
        return NULL;
    }
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *item = PySequence_GetItem(addresses, k);
        found[k] = item == NULL ? 0 : (uintptr_t)PyLong_AsUnsignedLongLong(item);
        Py_XDECREF(item);
        if (PyErr_Occurred())
            return NULL;
    }
    for (Py_ssize_t k = 0; k < count; k++) /* threads may be calling those that they know */
        if (found[k])
            memcpy((char *)&library + (size_t)k * sizeof(found[k]), found + k, sizeof(found[k]));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS, decode_doc},
    {"cut", cut_windows, METH_VARARGS, cut_doc},
    {"expect", expect, METH_NOARGS, expect_doc},
    {"blend", blend, METH_VARARGS, blend_doc},
    {"encode", encode, METH_VARARGS, encode_doc},
    {"bind", bind, METH_O, bind_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_core", "Decodes chunks outside Python's lock.", -1, methods, NULL, NULL, NULL, NULL};

#ifndef SOURCE_CRC
#define SOURCE_CRC 0 /* not stated: of a build that is not `hatch_build.py`'s */
#endif

PyMODINIT_FUNC PyInit__core(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddIntConstant(module, "source_crc", SOURCE_CRC)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
