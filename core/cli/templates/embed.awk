# SPDX-License-Identifier: Apache-2.0
# Template files -> one C source: an entry of lm_templates for each, named as the
# file without its suffix .in.
BEGIN {
    print "/* SPDX-License-Identifier: Apache-2.0 */"
    print "/* templates.c -- made by templates/embed.awk from the files beside it. */"
    print "#include \"cli/templates.h\""
    print "const struct lm_template lm_templates[] = {"
}
FNR == 1 {
    if (NR > 1) print "    },"
    name = FILENAME
    sub(/.*\//, "", name)
    sub(/\.in$/, "", name)
    print "    { \"" name "\","
}
{
    gsub(/\\/, "&&")
    gsub(/"/, "\\\\&")
    gsub(/\t/, "\\\\t")
    print "      \"" $0 "\\n\""
}
END { print "    },\n    { NULL, NULL }\n};" }
