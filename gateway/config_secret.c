/*
 * A secret of the configuration that is not in it: read from a file or an environment variable.
 *
 * Failure modes: the file cannot be read, is too large or holds a NUL byte; the variable is not set;
 * the content is nothing the secret's key accepts. The line that says so names the key and never shows
 * the content. Thread: main, while it loads. Ownership: the secret belongs to the configuration; what
 * was read on the way is wiped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_keys.h"

enum { SECRET_FILE_MAX = 4096 /* bytes */ };

/* One line feed at the end is an editor's, not the secret's. */
int gw_config_secret_from_file(void *values, const struct gw_config_key *file_key,
                               const struct gw_config_key *secret_key,
                               char error[GW_CONFIG_ERROR_SIZE])
{
    char text[SECRET_FILE_MAX + 2], accepted[GW_CONFIG_ACCEPTED_SIZE];
    size_t len = 0;
    ssize_t got = 0;
    int fd = open(gw_config_value_text(values, file_key), O_RDONLY | O_CLOEXEC);

    while (fd >= 0 && len <= SECRET_FILE_MAX &&
           (got = read(fd, text + len, SECRET_FILE_MAX + 1 - len)) > 0) {
        len += (size_t)got;
    }
    if (fd < 0 || got < 0) {
        gw_config_keys_complain(error, "%s: the file cannot be read: %s", file_key->name,
                                strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        explicit_bzero(text, sizeof(text));
        return SL_E_INVALID_VALUE;
    }
    (void)close(fd);
    int err = len > SECRET_FILE_MAX ? SL_E_INVALID_VALUE : 0;
    if (len > 0 && text[len - 1] == '\n') {
        len--;
    }
    text[len] = '\0';
    if (err == 0 && strlen(text) != len) {
        err = SL_E_INVALID_VALUE; /* a NUL byte would silently shorten it */
    }
    if (err == 0) {
        err = gw_config_value_set(values, secret_key, text);
    }
    explicit_bzero(text, sizeof(text));
    if (err != 0) {
        gw_config_keys_accepted(secret_key, accepted);
        gw_config_keys_complain(error, "%s: the content of the file (at most %d bytes, no NUL) %s",
                                file_key->name, SECRET_FILE_MAX, accepted);
    }
    return err;
}

int gw_config_secret_from_env(void *values, const struct gw_config_key *env_key,
                              const struct gw_config_key *secret_key,
                              char error[GW_CONFIG_ERROR_SIZE])
{
    char accepted[GW_CONFIG_ACCEPTED_SIZE];
    const char *text = getenv(gw_config_value_text(values, env_key));

    if (text == NULL || *text == '\0') {
        gw_config_keys_complain(error, "%s: the environment variable it names is not set",
                                env_key->name);
        return SL_E_INVALID_VALUE;
    }
    int err = gw_config_value_set(values, secret_key, text);
    if (err != 0) {
        gw_config_keys_accepted(secret_key, accepted);
        gw_config_keys_complain(error, "%s: the content of the variable %s", env_key->name,
                                accepted);
    }
    return err;
}
