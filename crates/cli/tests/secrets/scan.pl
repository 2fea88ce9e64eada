# Looks for secrets in everything a process inside can read, and prints where one is.
#
# The arguments are the secrets in hex with every bit pattern turned by 0x5a, so that neither this
# program's own arguments nor whoever passed them hold one in a form that is looked for. Files older
# than the server (their time of change cannot be set back) hold no secret that was made for it.
use strict;
use MIME::Base64;
my $since = shift;
my @forms = map {
    my $value = pack('H*', $_) ^ ("\x5a" x (length($_) / 2));
    my @all = ($value, unpack('H*', $value));
    for my $before (0 .. 2) {
        my $text = encode_base64(("\0" x $before) . $value, '');
        $text =~ s/=+$//;
        my $first = (0, 2, 3)[$before];
        push @all, substr($text, $first, int(($before + length $value) * 4 / 3) - $first);
        (my $other = $all[-1]) =~ tr{+/}{-_};
        push @all, $other;
    }
    (my $percent = $value) =~ s/([^A-Za-z0-9\-._~])/sprintf('%%%02X', ord $1)/ge;
    [@all, $percent];
} @ARGV;
my ($files, $environments, $memories) = (0, 0, 0);
my %told;

sub search {
    my ($text, $path) = @_;
    for my $number (0 .. $#forms) {
        next if $told{"$number $path"};
        next unless grep { index($$text, $_) >= 0 } @{ $forms[$number] };
        $told{"$number $path"} = 1;
        print "FOUND $number in $path\n";
    }
}

sub look {
    my ($path) = @_;
    open(my $file, '<', $path) or return 0;
    binmode $file;
    my $kept = '';
    while (sysread($file, my $piece, 1 << 20)) {
        my $text = $kept . $piece;
        search(\$text, $path);
        $kept = substr($text, -400);
    }
    return 1;
}

sub walk {
    my ($directory) = @_;
    opendir(my $entries, $directory || '/') or return;
    for my $name (readdir $entries) {
        next if $name eq '.' or $name eq '..';
        my $path = "$directory/$name";
        next if $path =~ m{^/(proc|sys)$};
        my @about = lstat $path or next;
        search(\$name, "the name $path");
        if (-d _) { walk($path) }
        elsif (-l _) { my $target = readlink $path; search(\$target, "the link $path") }
        elsif (-f _ and $about[10] >= $since) { $files += look($path) }
    }
}

sub memory {
    my ($process) = @_;
    open(my $maps, '<', "$process/maps") or return 0;
    open(my $memory, '<', "$process/mem") or return 0;
    binmode $memory;
    while (my $line = <$maps>) {
        my ($start, $end, $rights) = $line =~ /^([0-9a-f]+)-([0-9a-f]+) (\S+)/ or next;
        next if $rights !~ /^r/ or $line =~ /\[v/;
        my ($at, $stop) = (hex $start, hex $end);
        my $kept = '';
        while ($at < $stop) {
            my $length = $stop - $at < 1 << 20 ? $stop - $at : 1 << 20;
            sysseek($memory, $at, 0) or last;
            my $count = sysread($memory, my $piece, $length) or last;
            my $text = $kept . $piece;
            search(\$text, "$process/mem");
            $kept = substr($text, -400);
            $at += $count;
        }
    }
    return 1;
}

walk('');
for my $process (grep { m{/\d+$} and $_ ne "/proc/$$" } glob '/proc/*') {
    $environments += look("$process/environ");
    look("$process/cmdline");
    $memories += memory($process);
}
print "scanned $files files, $environments environments, $memories memories\n";
