#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Programs of the user as evaluators: only when allowed, never through a shell,
# bounded in time and output; whatever they do, the search goes on.
LAMINA_SRCDIR=${LAMINA_SRCDIR:-.}
. "$LAMINA_SRCDIR/tests/tap.sh"
. "$LAMINA_SRCDIR/tests/e2e.sh"

mkdir 'a $(touch pwned);"&' 2>/dev/null
odd=$tmp'/a $(touch pwned);"&'
cat >"$odd/score.sh" <<'END'
#!/bin/sh
# prints the size of the file as JSON; counts its calls beside itself
echo "scoring" >&2
echo call >>"${0%/*}/calls"
printf '{"bytes": %d, "more": [ { "a/b": 2.5 } ], "text": "no number", "arg": 1}\n' \
    "$(wc -c <"$1")"
END
chmod +x "$odd/score.sh"
script() { cat >"$tmp/$1"; chmod +x "$tmp/$1"; }
command="command=[\"$tmp/plain.sh\",{model}]"
script plain.sh <<'END'
#!/bin/sh
printf '{"bytes": %d, "more": [ { "a/b": 2.5 } ], "text": "no number"}\n' \
    "$(wc -c <"$1")"
END

evals()             # evals SPEC...: eval of the tiny model with commands allowed
{
    spec=$1; shift
    lamina eval "$tiny" --allow-commands --json --metric "command:$spec" "$@"
    show
    test "$rc" = 0
}
fails()             # fails 'PATTERN' SPEC: an honest sentence and status 1
{
    pattern=$1; shift
    says 1 "$pattern" eval "$tiny" --allow-commands --metric "command:$1"
}

# ---- one model -------------------------------------------------------------------
ok "without --allow-commands: status 2" says 2 '\-\-allow-commands' \
    eval "$tiny" --metric "command:$command,metrics=[bytes]"
ok "without --allow-commands not even the model is opened" says 2 'allow-commands' \
    eval /nowhere --metric "command:$command,metrics=[bytes]"
ok "a script's number" evals \
    "$command,metrics=[\"bytes unit=B\",\"x=/more/0/a~1b maximise\"]"
bytes=$(get metrics/name=command.bytes/value)
ok "unit" same "$(get metrics/name=command.bytes/unit)" B
ok "a JSON pointer" same "$(get metrics/name=command.x/value)" 2.5
ok "the protocol is the command" sh -c \
    "\"$json_get\" out metrics/name=command.bytes/protocol | "\
"grep -q 'plain.sh {model}; on gguf'"
ok "an argument of two lines" evals "command=[$tmp/plain.sh,{model},\"two
lines\"],metrics=[bytes]"
ok "the candidate's file is gone" test -z "$(find "$XDG_CACHE_HOME" -name 'model-*')"
ok "the file is the exported model" less 1300000 "$bytes"
ok "dtype q8_0 makes a smaller file" evals "$command,metrics=[bytes],dtype=q8_0"
ok "smaller" less "$(get metrics/name=command.bytes/value)" "$bytes"
script folder.sh <<'END'
#!/bin/sh
printf '{"files": %d}\n' "$(ls "$1" | grep -c -e '^config.json$' -e safetensors)"
END
ok "format hf is a folder" evals \
    "command=[$tmp/folder.sh,{model}],metrics=[files],format=hf"
ok "with its files" same "$(get metrics/name=command.files/value)" 2
ok "which is gone" test -z "$(find "$XDG_CACHE_HOME" -name 'model-*')"

# ---- mistakes of the configuration ------------------------------------------------
bad() { says 2 "$1" eval "$tiny" --allow-commands --metric "command:$2"; }
ok "no {model}" bad '\{model\}' "command=[true],metrics=[x]"
ok "no metrics" bad 'metrics' "$command"
ok "a metric with a bad word" bad 'maximise' "$command,metrics=[\"x biggest\"]"
ok "a metric named twice" bad 'twice' "$command,metrics=[x,\"x=/y\"]"
ok "unknown format" bad 'ggfu' "$command,metrics=[x],format=ggfu"
ok "a format that does not write the dtype" bad 'q8_0' \
    "$command,metrics=[x],format=hf,dtype=q8_0"

# ---- programs that misbehave --------------------------------------------------------
ok "no such program" fails "cannot start '/nowhere/prog'" \
    "command=[/nowhere/prog,{model}],metrics=[x]"
ok "a missing key" fails "without 'bites'" "$command,metrics=[bites]"
ok "a missing pointer" fails "without '/more/1/x'" "$command,metrics=[\"m=/more/1/x\"]"
ok "text where a number belongs" fails "no number at 'text'" "$command,metrics=[text]"
script status.sh <<'END'
#!/bin/sh
echo '{"x": 1}'; echo first >&2; echo 'cannot find the corpus' >&2; exit 3
END
ok "exit status, with its last words" fails "status 3: cannot find the corpus" \
    "command=[$tmp/status.sh,{model}],metrics=[x]"
script signal.sh <<'END'
#!/bin/sh
kill -SEGV $$
END
ok "a signal" fails "killed by signal 11" "command=[$tmp/signal.sh,{model}],metrics=[x]"
script nojson.sh <<'END'
#!/bin/sh
echo 'accuracy: 0.5'
END
ok "no JSON" fails 'printed no JSON; its output begins with "accuracy: 0.5"' \
    "command=[$tmp/nojson.sh,{model}],metrics=[x]"
ok "nothing at all" fails "printed no JSON" "command=[true,{model}],metrics=[x]"
script nan.sh <<'END'
#!/bin/sh
echo '{"x": NaN}'
END
ok "NaN" fails "printed no JSON" "command=[$tmp/nan.sh,{model}],metrics=[x]"
script huge.sh <<'END'
#!/bin/sh
echo '{"x": 1e999}'
END
ok "a number beyond all" fails "printed no JSON" \
    "command=[$tmp/huge.sh,{model}],metrics=[x]"
script flood.sh <<'END'
#!/bin/sh
while :; do echo 'all work and no play makes a dull program'; done
END
ok "endless output is refused" fails "more than 1.0 MB" \
    "command=[$tmp/flood.sh,{model}],metrics=[x],timeout=20"
script sleepy.sh <<'END'
#!/bin/sh
trap '' TERM
sleep 300 &
echo $! >child.pid
sleep 300
END
ok "the time limit" fails "after 0.5 s" \
    "command=[$tmp/sleepy.sh,{model}],metrics=[x],timeout=0.5"
gone()              # nothing but a zombie, which its new parent may not fetch
{
    for i in 1 2 3 4 5 6 7 8 9 10; do
        case $(ps -o stat= -p "$(cat child.pid)") in
        ''|Z*) return 0 ;;
        esac
        sleep 0.1
    done
    return 1
}
ok "takes the whole process group" gone
script orphan.sh <<'END'
#!/bin/sh
sleep 300 &
echo $! >child.pid
echo '{"x": 7}'
END
ok "a child left behind" evals "command=[$tmp/orphan.sh,{model}],metrics=[x]"
ok "does not live on" gone
script loud.sh <<'END'
#!/bin/sh
head -c 3000000 /dev/zero | tr '\0' 'e' >&2
echo '{"x": 7}'
END
ok "much on standard error is no failure" evals \
    "command=[$tmp/loud.sh,{model}],metrics=[x]"

# ---- in a search ----------------------------------------------------------------------
cat >search.cfg <<END
lamina = 1;
run: { out = "cmd"; };
model: { path = "$tiny"; };
prune = ( { use = "layers"; } );
evaluate = (
  { use = "command"; metrics = [ "bytes" ];
    command = [ "$(printf %s "$odd" | sed 's/"/\\"/g')/score.sh", "{model}", \
"\$(touch pwned)", ";touch pwned" ]; },
  { use = "command"; id = "again"; command = [ "$tmp/plain.sh", "{model}" ]; \
metrics = [ "x=/more/0/a~1b maximise" ]; },
  { use = "size"; } );
objectives = ( { metric = "command.bytes"; }, { metric = "again.x"; } );
search: { use = "random"; budget = 8; };
export = ( { use = "gguf"; } );
report = ( { use = "json"; } );
END
ok "a pipeline without --allow-commands: its line" \
    says 2 'search.cfg:6: error: .*allow-commands' run search.cfg
nok "and nothing was made" test -e cmd
ok "check needs no permission" prints sound check search.cfg
ok "an estimate neither" prints trials run search.cfg --dry-run
ok "the search" exits 0 run search.cfg --allow-commands
ok "metacharacters stay what they are" test ! -e pwned -a ! -e "$odd/pwned"
plans=$(ls cmd/commands/command-*.txt | wc -l)
ok "one call for each plan" same "$(wc -l <"$odd/calls")" "$plans"
ok "the output is kept" grep -q '^scoring' cmd/commands/command-*.txt
ok "no candidate is left" test -z "$(ls cmd/commands | grep model-)"
ok "the file size is a metric of the study" "$json_get" cmd/report.json trials/0/metrics
ok "resume without permission" says 2 'allow-commands' run --resume cmd
ok "resume" exits 0 run --resume cmd --allow-commands
ok "asks nothing again" same "$(wc -l <"$odd/calls")" "$plans"
ok "exporting runs no command" exits 0 export cmd smallest again.gguf
ok "so it needs no permission" same "$(wc -l <"$odd/calls")" "$plans"

# infeasible where the program fails: only small files are accepted
script picky.sh <<'END'
#!/bin/sh
n=$(wc -c <"$1")
test "$n" -gt 1000000 || { echo "too small: $n" >&2; exit 9; }
echo "{\"bytes\": $n}"
END
sed -e "s|command = \[ .*again|command = [ \"$tmp/picky.sh\", \"{model}\" ]; }, "\
"{ use = \"command\"; id = \"again|" \
    -e 's|command = \[ "/.*pwned" \]; },|'\
'command = [ "'"$tmp"'/picky.sh", "{model}" ]; },|' \
    -e 's|"cmd"|"picky"|' search.cfg >picky.cfg
ok "a program that refuses some candidates" exits 0 run picky.cfg --allow-commands
ok "the reason is in the report" grep -q 'status 9: too small' picky/report.json
sed -i 's/-gt 1000000/-gt 9000000/' picky.sh
ok "one that refuses the dense model ends the run" says 1 'status 9: too small' \
    run picky.cfg --allow-commands --set 'run.out="none"'

# Ctrl-C stops a command at once, and the run can go on
script slow.sh <<'END'
#!/bin/sh
echo $$ >child.pid
sleep 300
END
"$LAMINA" eval "$tiny" --allow-commands \
    --metric "command:command=[$tmp/slow.sh,{model}],metrics=[x]" >out 2>err &
job=$!
rm -f child.pid
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    test -s child.pid && break
    sleep 0.1
done
kill -INT $job
wait $job
rc=$?
ok "SIGINT: status 130" same $rc 130
ok "the command is gone" gone
finish
