/*
 * Reads records over many segments in the order of their sequence numbers, each once.
 *
 * Happy path: every segment is a source with the number its next record has, at first only known from
 * the list; the source with the lowest is read. Two records with one number and the same content are
 * one; with different content (which only a disk that forgot could bring about) both are given out.
 *
 * Failure modes: damage is stepped over and counted; a segment that cannot be opened counts as one
 * damage and has no records. Thread, ownership: see the header.
 */
#include "journal_reader.h"

#include <stdlib.h>

enum { OPEN_ATTEMPTS = 3 };

static int add_source(struct store_reader *reader, struct store_segment *segment);
static void drop_source(struct store_reader *reader, size_t index);
static int load_head(struct store_reader *reader, struct store_reader_source *source);
static uint64_t next_number(const struct store_reader *reader,
                            const struct store_reader_source *source);
static bool is_repeated(const struct store_reader *reader, const struct store_format_view *view);
static struct store_reader_source *lowest(const struct store_reader *reader);

void store_reader_init(struct store_reader *reader, struct store_disk *disk, uint64_t after)
{
    *reader = (struct store_reader){.disk = disk, .after = after};
}

int store_reader_attach(struct store_reader *reader, struct store_segment *first,
                        bool only_unrescued)
{
    for (size_t i = reader->count; i-- > 0;) {
        struct store_reader_source *source = reader->sources[i];
        struct store_segment *segment = source->segment;
        if (segment->end > source->cursor.limit) {
            source->cursor.limit = segment->end;
            source->ended = false;
        }
        if (!source->has_head && segment->last_sequence <= reader->after) {
            drop_source(reader, i);
        }
    }
    for (struct store_segment *segment = first; segment != NULL; segment = segment->next) {
        bool known = false;
        for (size_t i = 0; i < reader->count && !known; i++) {
            known = reader->sources[i]->segment == segment;
        }
        if (!known && segment->last_sequence > reader->after &&
            (!only_unrescued || segment->unrescued)) {
            int err = add_source(reader, segment);
            if (err != 0) {
                return err;
            }
        }
    }
    return 0;
}

static int add_source(struct store_reader *reader, struct store_segment *segment)
{
    if (reader->count == reader->capacity) {
        size_t capacity = reader->capacity == 0 ? 8 : 2 * reader->capacity;
        struct store_reader_source **larger =
            realloc(reader->sources, capacity * sizeof(struct store_reader_source *));
        if (larger == NULL) {
            return SL_E_NO_MEMORY;
        }
        reader->sources = larger;
        reader->capacity = capacity;
    }
    struct store_reader_source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        return SL_E_NO_MEMORY;
    }
    source->segment = segment;
    source->first_sequence = segment->first_sequence;
    source->cursor.file = -1;
    source->cursor.limit = segment->end;
    segment->readers++;
    reader->sources[reader->count++] = source;
    return 0;
}

static void drop_source(struct store_reader *reader, size_t index)
{
    struct store_reader_source *source = reader->sources[index];

    store_cursor_close(&source->cursor);
    source->segment->readers--;
    free(source);
    reader->sources[index] = reader->sources[--reader->count];
}

int store_reader_peek(struct store_reader *reader, struct store_format_view *ret_view)
{
    for (;;) {
        struct store_reader_source *source = lowest(reader);
        if (source == NULL) {
            return 0;
        }
        if (source->has_head) {
            if (!is_repeated(reader, &source->head)) {
                *ret_view = source->head;
                return 1;
            }
            source->has_head = false;
        }
        int err = load_head(reader, source);
        if (err != 0) {
            return err;
        }
    }
}

static uint64_t next_number(const struct store_reader *reader,
                            const struct store_reader_source *source)
{
    if (source->has_head) {
        return source->head.sequence;
    }
    return source->first_sequence > reader->after ? source->first_sequence : reader->after + 1;
}

/* a source that has shown its record goes before one that may turn out to have the same number */
static struct store_reader_source *lowest(const struct store_reader *reader)
{
    struct store_reader_source *best = NULL;

    for (size_t i = 0; i < reader->count; i++) {
        struct store_reader_source *source = reader->sources[i];
        if (source->ended) {
            continue;
        }
        if (best == NULL || next_number(reader, source) < next_number(reader, best) ||
            (next_number(reader, source) == next_number(reader, best) && source->has_head &&
             !best->has_head)) {
            best = source;
        }
    }
    return best;
}

/* the record given out last, once more? */
static bool is_repeated(const struct store_reader *reader, const struct store_format_view *view)
{
    if (view->sequence > reader->after) {
        return false;
    }
    return view->sequence < reader->after || !reader->has_last ||
           (view->recorded_at_us == reader->last_recorded_at_us &&
            view->size == reader->last_size && sl_uuid_equal(&view->id, &reader->last_id));
}

static int load_head(struct store_reader *reader, struct store_reader_source *source)
{
    if (!source->started) {
        char name[STORE_SEGMENT_NAME];
        uint64_t limit = source->cursor.limit;
        bool intact = false;
        store_segment_name(source->segment->number, name);
        source->started = true;
        int err = -1;
        for (int attempt = 0; attempt < OPEN_ATTEMPTS && err != 0; attempt++) {
            err = store_cursor_open_segment(&source->cursor, reader->disk, name, limit, &intact);
        }
        if (err != 0) {
            source->cursor.file = -1;
            source->ended = true;
            reader->damages++;
            reader->unreadable = true;
            return 0;
        }
    }
    while (!source->has_head && !source->ended) {
        int got = store_cursor_next(&source->cursor, &source->head);
        if (got < 0) {
            return got;
        }
        if (source->cursor.damage_to > source->cursor.damage_from &&
            ++source->damages > source->segment->damages) {
            reader->damages++;
        }
        reader->unreadable |= source->cursor.unreadable;
        source->ended = got == 0;
        source->has_head = got > 0 && !is_repeated(reader, &source->head);
    }
    return 0;
}

void store_reader_take(struct store_reader *reader)
{
    struct store_reader_source *source = lowest(reader);

    reader->after = source->head.sequence;
    reader->has_last = true;
    reader->last_id = source->head.id;
    reader->last_recorded_at_us = source->head.recorded_at_us;
    reader->last_size = source->head.size;
    source->has_head = false;
}

void store_reader_detach(struct store_reader *reader)
{
    while (reader->count > 0) {
        drop_source(reader, reader->count - 1);
    }
    free(reader->sources);
    reader->sources = NULL;
    reader->capacity = 0;
}
