/* SPDX-License-Identifier: Apache-2.0 */
/* err.c -- recording a failure and putting context in front of it.  Texts that
 * do not fit are cut, never refused: a failure must always get through.  They
 * quote files of strangers, so what could command a terminal is taken out.   */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum lm_status lm_fail(struct lm_err *e, enum lm_status code, const char *fmt, ...)
{
    if (e == NULL)
        return code;
    /* Arguments may point into e->text, so it is built elsewhere first. */
    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    lm_str_tame(text, strlen(text));
    memcpy(e->text, text, sizeof text);
    e->code = code;
    return code;
}

enum lm_status lm_fail_memory(struct lm_err *e, size_t n, const char *what)
{
    return lm_fail(e, LM_ENOMEM, "out of memory (wanted %zu bytes for %s)", n, what);
}

enum lm_status lm_err_prefix(struct lm_err *e, const char *fmt, ...)
{
    if (e == NULL)
        return LM_EFAILED;
    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text)
        return e->code;
    size_t room = sizeof text - (size_t)n - 1, old = strlen(e->text);
    if (old > room)
        old = room;
    memcpy(text + n, e->text, old);
    text[(size_t)n + old] = '\0';
    lm_str_tame(text, (size_t)n + old);
    memcpy(e->text, text, (size_t)n + old + 1);
    return e->code;
}

const char *lm_status_name(enum lm_status s)
{
    switch (s) {
    case LM_OK:           return "ok";
    case LM_ECONFIG:      return "wrong configuration";
    case LM_EINPUT:       return "bad input";
    case LM_ENOMEM:       return "out of memory";
    case LM_EIO:          return "input or output failed";
    case LM_EUNSUPPORTED: return "unsupported";
    case LM_EINFEASIBLE:  return "infeasible";
    case LM_EUNAVAILABLE: return "unavailable";
    case LM_ECANCELED:    return "canceled";
    case LM_EFAILED:      return "failed";
    case LM_EBUG:         return "internal error";
    }
    return "unknown status";
}

int lm_exit_code(enum lm_status s)
{
    switch (s) {
    case LM_OK:        return 0;
    case LM_ECONFIG:   return 2;
    case LM_EINPUT:    return 3;
    case LM_ECANCELED: return 130;
    default:           return 1;
    }
}
