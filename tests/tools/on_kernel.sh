#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# on_kernel.sh: what scripts/kernels runs inside each kernel, with nothing but busybox beside weir. A line for each case,
# "ok NAME" or "FAIL NAME"; the last line is the result.
failed=0
judge() { # STATUS NAME FILE: a case has ended; FILE is told where it failed
    if [ "$1" = 0 ]; then
        echo "ok $2"
    else
        echo "FAIL $2 ($1)"
        tail -30 "$3" | sed 's/^/  | /'
        failed=1
    fi
}
chmod 1777 /tmp
export PATH=$PATH:/weir

for test in unit_loader_kern unit_loader_sockmap_rules unit_loader_mover; do
    WEIR_SLOW=4 $test >/tmp/$test 2>&1
    judge $? "$test" /tmp/$test
done

weir doctor >/tmp/doctor 2>&1
grep splice /tmp/doctor
for mover in pipe sockmap; do
    grep -q "^ok  *splice: $mover" /tmp/doctor
    judge $? "doctor.$mover" /tmp/doctor
done

weir echo --listen 127.0.0.1:8001 >/tmp/echo 2>&1 &
seq 1 400000 >/tmp/body # is told back, behind the head
for mover in copy pipe sockmap; do
    log=/tmp/$mover.log
    cat >/tmp/$mover.yaml <<CONF
instance: $mover
workers: 1
listeners: { a: { bind: "127.0.0.1:8000", to: b, protocol: tcp } }
upstreams: { b: { servers: ["127.0.0.1:8001"] } }
kernel: { splice: $mover, sockmap_after: 0s }
access_log: { to: { file: $log } }
CONF
    weir run -c /tmp/$mover.yaml >/tmp/$mover.said 2>&1 &
    pid=$!
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        weir status -i $mover >/dev/null 2>&1 && break
        sleep 1
    done
    wget -q -O /tmp/$mover.via http://127.0.0.1:8000/bytes/8000000 &&
        wget -q -O /tmp/$mover.direct http://127.0.0.1:8001/bytes/8000000 &&
        cmp /tmp/$mover.via /tmp/$mover.direct >>/tmp/$mover.said 2>&1
    judge $? "tunnel.$mover.down" /tmp/$mover.said
    wget -q -O /tmp/$mover.via --post-file=/tmp/body http://127.0.0.1:8000/ &&
        tail -n 400000 /tmp/$mover.via | cmp - /tmp/body >>/tmp/$mover.said 2>&1
    judge $? "tunnel.$mover.up" /tmp/$mover.said
    kill $pid
    wait $pid
    judge $? "tunnel.$mover.stop" /tmp/$mover.said
    cat $log >>/tmp/$mover.said
    [ $mover = copy ] || grep -q "\"mover\":\"$mover\"" $log
    judge $? "tunnel.$mover.mover" /tmp/$mover.said
done
ls /sys/fs/bpf >/tmp/left && [ ! -s /tmp/left ]
judge $? nothing.is.left /tmp/left
[ $failed = 0 ] && echo "RESULT ok" || echo "RESULT fail"
