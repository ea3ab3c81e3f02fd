# Counts the words of the payload's text.
use strict;
use warnings;
use IO::Handle;
use JSON::PP;

open(my $control, '>&=', $ENV{ZIZQ_CTL_FD}) or die "no control channel: $!\n";
$control->autoflush(1);
sub say_line { print $control encode_json($_[0]), "\n" }

my $text = decode_json(do { local $/; <STDIN> })->{text};
if ($text eq '') {
    print STDERR "the text is empty\n";
    exit 65;    # EX_DATAERR: trying again is of no use
}

my $words = () = $text =~ /\S+/g;
say_line({ progress => 1, message => 'counted' });
say_line({ result => { words => $words } });
print "$words words\n";
