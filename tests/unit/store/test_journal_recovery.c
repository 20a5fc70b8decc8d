/*
 * The start on a damaged folder: every torn length of the last record, 1,000 flipped bits, a header that
 * is gone, a segment that is missing, a checkpoint that lies. Exactly the damaged record is missing.
 */
#include "journal_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "journal_checkpoint.h"
#include "journal_cursor.h"

enum { MESSAGES = 60 };

/* a healthy folder, as files that can be put on any number of disks */
static struct image {
    struct {
        char name[64];
        uint8_t *bytes;
        size_t len;
    } files[40];
    size_t count;
    struct place {
        size_t file, from, size;
        unsigned number;
    } places[MESSAGES];
    size_t place_count;
} image;

static uint64_t seed;

static void note_places(size_t file)
{
    const uint8_t *bytes = image.files[file].bytes;
    struct store_format_segment header;

    assert_true(store_format_decode_segment(bytes, &header));
    for (size_t at = STORE_FORMAT_SEGMENT_HEADER;
         at + STORE_FORMAT_RECORD_HEADER <= image.files[file].len;) {
        struct store_format_view view;
        struct store_record *record = NULL;
        size_t size = store_format_peek_size(bytes + at, &header.salt);
        if (size == 0) {
            break;
        }
        assert_true(store_format_decode_record(bytes + at, size, &view));
        assert_int_equal(store_format_rebuild(&view, &record), 0);
        image.places[image.place_count++] = (struct place){file, at, size, fixture_number(record)};
        store_record_destroy(record);
        at += size;
    }
}

static int make_image(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    const char *name;

    (void)state;
    fixture_init(fixture, 1);
    fixture->sink_max = MESSAGES;
    assert_true(fixture_open(fixture));
    fixture_append(fixture, 0, 20);
    fixture_append(fixture, 20, 40);
    fixture_append(fixture, 40, MESSAGES);
    fixture_close(fixture, 10000);
    for (size_t i = 0; (name = sim_disk_name(fixture->sim, "", i)) != NULL; i++) {
        size_t len = 0;
        uint8_t *bytes = sim_disk_file(fixture->sim, name, &len);
        (void)snprintf(image.files[i].name, sizeof(image.files[i].name), "%s", name);
        image.files[i].bytes = malloc(len);
        memcpy(image.files[i].bytes, bytes, len);
        image.files[i].len = len;
        image.count++;
        if (strncmp(name, "segment-", 8) == 0) {
            note_places(i);
        }
    }
    fixture_finish(fixture);
    free(fixture);
    assert_int_equal(image.place_count, MESSAGES);
    return 0;
}

static int free_image(void **state)
{
    (void)state;
    for (size_t i = 0; i < image.count; i++) {
        free(image.files[i].bytes);
    }
    return 0;
}

/* a fixture on a copy of the image; without_file: one left out, or SIZE_MAX */
static struct fixture *with_image(size_t without_file)
{
    struct fixture *fixture = malloc(sizeof(*fixture));

    assert_non_null(fixture);
    fixture_init(fixture, 1);
    for (size_t i = 0; i < image.count; i++) {
        if (i != without_file) {
            sim_disk_put(fixture->sim, image.files[i].name, image.files[i].bytes,
                         image.files[i].len);
        }
    }
    return fixture;
}

static uint8_t *bytes_of(struct fixture *fixture, size_t file)
{
    size_t len = 0;
    return sim_disk_file(fixture->sim, image.files[file].name, &len);
}

static void finish(struct fixture *fixture)
{
    fixture_close(fixture, 1000);
    fixture_finish(fixture);
    free(fixture);
}

static void expect_all_but(const struct fixture *fixture, unsigned missing, const char *where)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        if ((fixture->inserted_in[i] != 0) != (i != missing)) {
            fail_msg("%s: number %u %s", where, i, i == missing ? "is there" : "is missing");
        }
    }
    fixture_check_table(fixture, where);
}

static void every_torn_length_of_the_last_record_is_cut(void **state)
{
    const struct place *last = &image.places[MESSAGES - 1];

    (void)state;
    for (size_t length = 0; length < last->size; length++) {
        struct fixture *fixture = with_image(SIZE_MAX);
        char where[32];
        (void)snprintf(where, sizeof(where), "length %u", (unsigned)length);
        uint8_t *bytes = bytes_of(fixture, last->file);
        bool torn = false;
        memset(bytes + last->from + length, 0, last->size - length);
        bool whole = memcmp(bytes + last->from, image.files[last->file].bytes + last->from,
                            last->size) == 0; /* only zeros were cut off */
        for (size_t i = 0; i < length; i++) {
            torn |= bytes[last->from + i] != 0;
        }
        assert_true(fixture_open(fixture));
        const struct store_journal_stats *stats = store_journal_figures(fixture->journal);
        expect_all_but(fixture, whole ? UINT32_MAX : last->number, where);
        assert_int_equal(sl_counter_get(&stats->torn_tails), torn && !whole ? 1 : 0);
        assert_int_equal(sl_counter_get(&stats->quarantined_records), 0);
        fixture_append(fixture, MESSAGES, MESSAGES + 2); /* over the cut */
        fixture_commit(fixture, 0);
        fixture_close(fixture, 1000);
        assert_true(fixture_open(fixture)); /* and nothing of the torn one is found again */
        stats = store_journal_figures(fixture->journal);
        assert_int_equal(sl_counter_get(&stats->torn_tails), 0);
        assert_int_equal(sl_counter_get(&stats->quarantined_records), 0);
        assert_int_equal(fixture->last_sequence, 0);
        finish(fixture);
    }
}

static void a_flipped_bit_costs_exactly_its_record(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    srandom((unsigned)seed);
    for (unsigned i = 0; i < 1000; i++) {
        const struct place *place = &image.places[(size_t)random() % MESSAGES];
        size_t bit = (size_t)random() % (8 * place->size);
        struct fixture *fixture = with_image(SIZE_MAX);
        char where[64];
        (void)snprintf(where, sizeof(where), "number %u, bit %u, seed %llu", place->number,
                       (unsigned)bit, (unsigned long long)seed);
        bytes_of(fixture, place->file)[place->from + bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(fixture_open(fixture));
        const struct store_journal_stats *stats = store_journal_figures(fixture->journal);
        expect_all_but(fixture, place->number, where);
        if (place->number == MESSAGES - 1) {
            assert_int_equal(sl_counter_get(&stats->torn_tails), 1);
            assert_int_equal(sl_counter_get(&stats->quarantined_records), 0);
        } else {
            assert_int_equal(sl_counter_get(&stats->torn_tails), 0);
            assert_int_equal(sl_counter_get(&stats->quarantined_records), 1);
            assert_int_equal(sl_counter_get(&stats->quarantined_bytes), place->size);
            const char *name = sim_disk_name(fixture->sim, "quarantine-", 0);
            size_t len = 0;
            assert_non_null(name);
            assert_non_null(sim_disk_file(fixture->sim, name, &len));
            assert_int_equal(len, place->size);
        }
        finish(fixture);
    }
}

static void a_damaged_header_costs_no_record(void **state)
{
    (void)state;
    for (size_t i = 0; i < MESSAGES; i++) {
        if (image.places[i].from != STORE_FORMAT_SEGMENT_HEADER) {
            continue;
        }
        struct fixture *fixture = with_image(SIZE_MAX);
        memset(bytes_of(fixture, image.places[i].file), 0xa5, STORE_FORMAT_SEGMENT_HEADER);
        assert_true(fixture_open(fixture));
        expect_all_but(fixture, UINT32_MAX, "header");
        assert_int_equal(
            sl_counter_get(&store_journal_figures(fixture->journal)->quarantined_bytes),
            STORE_FORMAT_SEGMENT_HEADER);
        finish(fixture);
    }
}

static void a_missing_segment_is_not_fatal(void **state)
{
    (void)state;
    for (size_t file = 0; file < image.count; file++) {
        struct fixture *fixture = with_image(file);
        assert_true(fixture_open(fixture));
        for (size_t i = 0; i < MESSAGES; i++) {
            assert_int_equal(fixture->inserted_in[image.places[i].number] != 0,
                             image.places[i].file != file);
        }
        finish(fixture);
    }
}

static void checkpoints_that_are_wrong_are_not_fatal(void **state)
{
    struct fixture *fixture = with_image(SIZE_MAX);
    struct store_checkpoint checkpoint = {.committed = 5, .next_sequence = 6, .first_segment = 0};
    struct store_disk *disk = sim_disk_attach(fixture->sim);
    size_t len = 0;

    (void)state;
    assert_int_equal(store_checkpoint_write(disk, &checkpoint), 0);
    assert_true(fixture_open(fixture)); /* five are committed */
    assert_int_equal(fixture->table_count, MESSAGES - 5);
    finish(fixture);
    disk->ops->destroy(disk);

    for (size_t bit = 0; bit < 8 * 48; bit++) { /* damaged: as if there was none */
        fixture = with_image(SIZE_MAX);
        disk = sim_disk_attach(fixture->sim);
        assert_int_equal(store_checkpoint_write(disk, &checkpoint), 0);
        sim_disk_file(fixture->sim, STORE_CHECKPOINT_NAME, &len)[bit / 8] ^=
            (uint8_t)(1 << bit % 8);
        disk->ops->destroy(disk);
        assert_true(fixture_open(fixture));
        assert_int_equal(fixture->table_count, MESSAGES);
        finish(fixture);
    }
    fixture = with_image(SIZE_MAX); /* names segments that are not there: numbers go on behind it */
    disk = sim_disk_attach(fixture->sim);
    checkpoint =
        (struct store_checkpoint){.committed = 9999, .next_sequence = 10500, .first_segment = 777};
    assert_int_equal(store_checkpoint_write(disk, &checkpoint), 0);
    disk->ops->destroy(disk);
    assert_true(fixture_open(fixture));
    assert_int_equal(fixture->table_count, 0);
    fixture_append(fixture, 0, 1);
    fixture_commit(fixture, 0);
    assert_true(fixture->last_sequence >= 10500);
    finish(fixture);
}

static void bytes_that_are_not_ours_are_not_fatal(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        uint8_t noise[20000];
        struct fixture *fixture = with_image(SIZE_MAX);
        srandom((unsigned)seed + i);
        for (size_t at = 0; at < sizeof(noise); at++) {
            noise[at] = (uint8_t)random();
        }
        sim_disk_put(fixture->sim, "segment-00000000000000ff.log", noise, i * 400);
        sim_disk_put(fixture->sim, "segment-zz.log", noise, 100);
        assert_true(fixture_open(fixture));
        expect_all_but(fixture, UINT32_MAX, "noise");
        finish(fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_torn_length_of_the_last_record_is_cut),
        cmocka_unit_test(a_flipped_bit_costs_exactly_its_record),
        cmocka_unit_test(a_damaged_header_costs_no_record),
        cmocka_unit_test(a_missing_segment_is_not_fatal),
        cmocka_unit_test(checkpoints_that_are_wrong_are_not_fatal),
        cmocka_unit_test(bytes_that_are_not_ours_are_not_fatal),
    };
    const char *given = getenv("SLUICE_TEST_SEED");

    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    return cmocka_run_group_tests(tests, make_image, free_image);
}
