#!/bin/bash
# Run by the agent inside a sandbox: tries every wall, and prints one line for each.
#
#   held NAME              the wall held
#   control NAME           the same means reach what they may reach
#   BREACH NAME: DETAIL    it did not
#
# WALLS_TCP, WALLS_TCP6 and WALLS_UDP are ports on the host's loopback, WALLS_NAME an abstract Unix
# socket of the host, WALLS_DATA the server's data directory, WALLS_MARK a word of the host's.
cd /workspace || exit 1

held() { echo "held $1"; }
breach() { echo "BREACH $1: $2" | tr '\n' ' '; echo; }

# The command must fail.
refused() {
  local name=$1 said
  shift
  if ! command -v "$1" > /dev/null; then
    breach "$name" "there is no $1 to try it with"
  elif said=$(timeout 20 "$@" 2>&1 < /dev/null); then
    breach "$name" "${*: -1} succeeded: ${said:0:200}"
  else
    held "$name"
  fi
}

# The command must succeed, or the test itself is worth nothing.
control() {
  local name=$1 said
  shift
  if said=$(timeout 20 "$@" 2>&1 < /dev/null); then
    echo "control $name"
  else
    breach "control-$name" "$said"
  fi
}

# The two must be equal.
same() { if [ "$2" = "$3" ]; then held "$1"; else breach "$1" "$2 instead of $3"; fi; }

network() {
  same only-loopback "$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' \n')" lo
  same no-route "$(tail -n +2 /proc/net/route)" ""
  same no-route-6 "$(grep -v ' lo$' /proc/net/ipv6_route)" ""
  refused no-names getent hosts example.org
  refused no-names-6 getent ahostsv6 example.org
  control loopback bash -c '</dev/tcp/127.0.0.1/7070'
  refused host-loopback bash -c "</dev/tcp/127.0.0.1/$WALLS_TCP"
  refused host-loopback-6 bash -c "</dev/tcp/::1/$WALLS_TCP6"
  refused metadata bash -c '</dev/tcp/169.254.169.254/80'
  refused metadata-6 bash -c '</dev/tcp/fd00:ec2::254/80'
  refused internet bash -c '</dev/tcp/1.1.1.1/443'
  refused internet-6 bash -c '</dev/tcp/2606:4700:4700::1111/443'
  refused internet-udp bash -c 'echo x >/dev/udp/1.1.1.1/53'
  refused internet-udp-6 bash -c 'echo x >/dev/udp/2606:4700:4700::1111/53'
  # A datagram to our own loopback always leaves; the host sees whether it arrives there.
  bash -c "echo from-inside >/dev/udp/127.0.0.1/$WALLS_UDP" 2> /dev/null
  control abstract-socket perl -MSocket -e 'my $address = pack("S a*", 1, "\0hangar-own"); my ($s, $c);
    socket($s, AF_UNIX, SOCK_STREAM, 0) or die $!; bind($s, $address) or die $!; listen($s, 1) or die $!;
    socket($c, AF_UNIX, SOCK_STREAM, 0) or die $!; connect($c, $address) or die $!'
  refused abstract-socket perl -MSocket -e 'my $s; socket($s, AF_UNIX, SOCK_STREAM, 0) or die $!;
    connect($s, pack("S a*", 1, "\0$ENV{WALLS_NAME}")) or die $!'
  refused raw-socket perl -MSocket -e 'my $s; socket($s, AF_INET, SOCK_RAW, 1) or die $!'
  refused packet-socket perl -e 'my $s; socket($s, 17, 3, 0) or die $!'
  # Neither of these families knows network namespaces: one leads to the hypervisor, one into the kernel.
  refused vsock perl -e 'my $s; socket($s, 40, 1, 0) or die $!'
  refused kernel-crypto perl -e 'my $s; socket($s, 38, 5, 0) or die $!'
  same listeners "$(awk 'FNR > 1 && $4 == "0A" { print $2 }' /proc/net/tcp /proc/net/tcp6 | sort -u)" 0100007F:1B9E
}

files() {
  local path
  for path in /root/.ssh /root/.bash_history /root/.cargo/credentials.toml /etc/shadow /etc/gshadow \
    /etc/sudoers /etc/ssh /boot /var/lib /var/log /proc/kcore /dev/mem /dev/kmsg /dev/fuse \
    /dev/kvm "$WALLS_DATA" "$WALLS_DATA/token" "$WALLS_DATA/forge/forge.db" "$WALLS_DATA/index.db" \
    "$WALLS_DATA/sandboxes" "$WALLS_DATA/sessions" "$WALLS_DATA/audit"; do
    if [ -e "$path" ] && { [ ! -d "$path" ] || [ -n "$(ls -A "$path" 2> /dev/null)" ]; } &&
      { [ -d "$path" ] || head -c 1 "$path" > /dev/null 2>&1; }; then
      breach "file:${path#"$WALLS_DATA"}" "is there: $(ls -ld "$path")"
    else
      held "file:${path#"$WALLS_DATA"}"
    fi
  done
  same nothing-of-the-host "$(find / -xdev -name "*$WALLS_MARK*" 2> /dev/null)" ""
  same no-database "$(find / \( -path /proc -o -path /usr \) -prune -o \( -name forge.db -o -name index.db -o -name server.json -o -name agentd.sock -o -name 'sbx_*' \) -print 2> /dev/null)" ""
  same devices "$(ls -lR /dev | awk '/^[bc]/ { print $NF }' | sort -u | tr '\n' ' ')" "full null ptmx random tty urandom zero "
  control mirror-is-there ls /mirror
  refused mirror-is-read-only touch /mirror/x
  for path in /opt/hangar/bin/x /usr/bin/x /usr/local/bin/x /run/hangar/x /etc/machine-id /etc/hosts \
    /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/x /dev/x; do
    refused "unwritable:$path" bash -c "echo x > $path"
  done
  refused toolkit-stays mv -T /opt/hangar /opt/other
  refused agentd-stays rm -f /opt/hangar/bin/hangar-agentd
  control workspace-is-writable touch /workspace/.git/walls
}

processes() {
  local pid number path
  # agentd, the agent, its shells and what they run: all of them are ours.
  for pid in $(cd /proc && ls -d [0-9]*); do
    [ -e "/proc/$pid/status" ] || continue
    path=$(readlink "/proc/$pid/ns/pid")
    if [ -n "$path" ] && [ "$path" != "$(readlink /proc/self/ns/pid)" ]; then
      breach other-process "$pid $(tr '\0' ' ' < "/proc/$pid/cmdline")"
    fi
  done
  same first-process "$(tr '\0' ' ' < /proc/1/cmdline)" "/opt/hangar/bin/hangar-agentd "
  same few-processes "$([ "$(cd /proc && ls -d [0-9]* | wc -l)" -lt 16 ] && echo few)" few
  refused hangar-is-invisible bash -c 'cat /proc/[0-9]*/cmdline | tr "\0" " " | grep -a "[s]erve --json"'
  for path in environ mem maps syscall stack io auxv; do
    refused "agentd:$path" head -c 1 "/proc/1/$path"
  done
  refused agentd:memory-write bash -c 'exec 3<> /proc/1/mem'
  # Their numbers can be listed, as those of any process of the same user; not what they are.
  refused agentd:descriptors bash -c 'readlink /proc/1/fd/* | grep .'
  refused agentd:take-socket bash -c 'exec 4<> /proc/1/fd/3'
  refused agentd:root ls /proc/1/root/
  refused agentd:directory ls /proc/1/cwd/
  refused agentd:ptrace perl -e 'syscall(101, 16, 1, 0, 0); exit($! == 1 ? 1 : 0)'
  refused agentd:read perl -e 'my $to = "x" x 8; my $local = pack("PQ", $to, 8); my $remote = pack("QQ", 0x400000, 8);
    syscall(310, 1, $local, 1, $remote, 1, 0); exit($! == 1 ? 1 : 0)'
  refused agentd:take-descriptor perl -e 'my $fd = syscall(434, 1, 0); syscall(438, $fd, 3, 0); exit($! == 1 ? 1 : 0)'
  refused agentd:limits perl -e 'my $new = pack("QQ", 4, 4); syscall(302, 1, 7, $new, 0); exit($! == 1 ? 1 : 0)'
  control own-limits bash -c 'ulimit -n 64'
  for number in $(seq 1 64); do
    kill "-$number" 1 2> /dev/null
  done
  control agentd-lives test -d /proc/1
  same no-inherited-socket "$(ls -l /proc/self/fd | grep -c 'socket:')" 0
}

rights() {
  same no-capability "$(awk '/^Cap(Inh|Prm|Eff|Bnd|Amb)/ { print $2 }' /proc/self/status | sort -u)" 0000000000000000
  same no-new-privileges "$(awk '/^NoNewPrivs/ { print $2 }' /proc/self/status)" 1
  same filtered "$(awk '/^Seccomp:/ { print $2 }' /proc/self/status)" 2
  refused mount-tmpfs mount -t tmpfs none /mnt
  refused mount-bind mount --bind /tmp /opt/hangar
  refused remount-workspace mount -o remount,bind,ro /workspace
  refused remount-usr mount -o remount,bind,rw /usr
  refused remount-toolkit mount -o remount,bind,rw /opt/hangar
  refused unmount umount -l /workspace
  for path in user mount pid net ipc uts cgroup; do
    refused "namespace:$path" unshare "--$path" true
  done
  refused namespace:user-and-root unshare -Ur true
  refused enter-namespace nsenter -t 1 -m true
  refused clone3 perl -e 'my $arguments = pack("Q11", 0x10000000, (0) x 10);
    my $pid = syscall(435, $arguments, 88); exit 1 if $pid < 0; exit 0'
  refused new-mount-api perl -e 'my $name = "tmpfs"; exit(syscall(430, $name, 0) >= 0 ? 0 : 1)'
  refused chroot chroot / true
  refused device mknod /tmp/disk b 8 0
  refused other-user perl -e '$< = $> = 1000; exit($> == 1000 ? 0 : 1)'
  refused bpf perl -e 'my $attributes = "\0" x 128; exit(syscall(321, 0, $attributes, 128) >= 0 ? 0 : 1)'
  refused io-uring perl -e 'my $parameters = "\0" x 120; exit(syscall(425, 1, $parameters) >= 0 ? 0 : 1)'
  refused keys perl -e 'exit(syscall(250, 0, -3, 1, 0, 0) >= 0 ? 0 : 1)'
  refused clock date -s 2001-01-01
  refused hostname perl -e 'exit(syscall(170, "x", 1) == 0 ? 0 : 1)'
}

# One request over the relay: its head, with line ends written as \r\n.
ask() {
  timeout 20 perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new("127.0.0.1:7070") or die $!;
    $ARGV[0] =~ s/\\r\\n/\r\n/g; print $s $ARGV[0]; local $/; print scalar <$s>' "$1" 2>&1
}

# The answer must be a refusal with these words.
denied() {
  local said
  said=$(ask "$2")
  case $said in
    "HTTP/1.1 403"*"$3"*) held "$1" ;;
    *) breach "$1" "${said:0:300}" ;;
  esac
}

gateway() {
  denied gateway:connect 'CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nConnection: close\r\n\r\n' \
    'example.org:443 cannot be reached from this sandbox'
  denied gateway:metadata 'GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' \
    'cannot be reached from this sandbox'
  denied gateway:host-loopback "CONNECT 127.0.0.1:$WALLS_TCP HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" \
    'cannot be reached from this sandbox'
  denied gateway:agentd 'POST /v1/exec HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' \
    'serves no /v1/exec'
  denied gateway:other-repository 'GET /git/local/local/other.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' \
    'does not belong to this session'
  control git:own-branch git push --quiet origin HEAD
  git -c user.name=x -c user.email=x@x commit --quiet --allow-empty --message=walls
  pushed git:main 'may not be pushed' HEAD:refs/heads/main
  pushed git:another-session 'may not be pushed' HEAD:refs/heads/hangar/00000000-x
  pushed git:tag 'may not be pushed' HEAD:refs/tags/v1
  pushed git:deletion 'may not be deleted' ":refs/heads/$(git branch --show-current)"
  local said
  said=$(git ls-remote http://127.0.0.1:7070/git/local/local/other.git 2>&1) &&
    breach git:other-repository "$said" || held git:other-repository
  control git:own-repository git ls-remote origin
}

# A push that must fail with these words.
pushed() {
  local said
  if said=$(timeout 60 git push origin "$3" 2>&1); then
    breach "$1" "pushed: $said"
  else
    case $said in
      *"$2"*) held "$1" ;;
      *) breach "$1" "$said" ;;
    esac
  fi
}

"$1"
echo "end $1"
