package osservice

import (
	"fmt"
	"strings"
)

// PackagedProgram is where packages put berth; their unit names it.
const PackagedProgram = "/usr/bin/berth"

// unitHead and unitTail enclose what differs from user to user.
//
// The program says itself when it is ready, so whatever is ordered after it
// finds the ports bound. It is tried again for ever: a network or a disk that
// comes back after an hour must not need a person. Only its main process gets
// the first signal: it stops its own children, after open connections ended.
//
// Its listening sockets are kept by the manager while it is restarted or has
// crashed: clients that connect meanwhile wait instead of being refused. So the
// pause before the next try is short at first; the program itself lengthens it. A
// reload has a new process take the program's place with nothing lost.
//
// A program that is stuck gives no sign of life, and is ended with the signal that has
// it write down what its goroutines do.
//
// Of the hardening that exists only that is here which a user manager can do
// without a user namespace: in one, berth could not see the user ids of the
// programs that connect.
const (
	unitHead = `# Written by "berth agent install", which replaces it.
# Changes of your own are kept by "systemctl --user edit %s".
[Unit]
Description=%s
%sStartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=%s
%sRestart=on-failure
RestartSec=100ms
TimeoutStartSec=60
TimeoutStopSec=20
WatchdogSec=120
KillMode=mixed
FileDescriptorStoreMax=4096
ExecReload=/bin/kill -USR2 $MAINPID
`
	unitTail = `UMask=0077
LimitCORE=0
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=default.target
`
)

// Unit returns the systemd user unit of cfg.
func Unit(cfg Config) string {
	manual := ""
	if cfg.Program == PackagedProgram {
		manual = "Documentation=man:berth(1)\n"
	}
	var env strings.Builder
	for _, e := range cfg.Env {
		fmt.Fprintf(&env, "Environment=%s\n", unitQuote(e.Name+"="+e.Value))
	}
	return fmt.Sprintf(unitHead, cfg.Name, unitText(cfg.Description), manual, execStart(cfg.Program, cfg.Args), env.String()) + unitTail
}

// execStart is a command line as systemd reads it. The colon turns off the
// expansion of variables: a dollar is a dollar.
func execStart(program string, args []string) string {
	words := make([]string, 0, len(args)+1)
	for _, w := range append([]string{program}, args...) {
		words = append(words, unitQuote(w))
	}
	line := strings.Join(words, " ")
	if strings.Contains(line, "$") {
		return ":" + line
	}
	return line
}

// unitQuote writes one word for systemd: quoted where it has to be, with the
// percent sign doubled, which would begin a specifier. Braces are escaped
// since the text passes through a template engine afterwards.
func unitQuote(s string) string {
	var b strings.Builder
	quote := s == ""
	for i := range len(s) {
		switch c := s[i]; {
		case c == '%':
			b.WriteString("%%")
		case c == '"' || c == '\\':
			quote = true
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '{' || c == '}' || c < ' ' || c == 0x7f:
			quote = true
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			quote = quote || c == ' ' || c == '\'' || c == ';' || c == '#'
			b.WriteByte(c)
		}
	}
	if quote {
		return `"` + b.String() + `"`
	}
	return b.String()
}

// unitText is a value that takes no quotes.
func unitText(s string) string {
	return strings.NewReplacer("%", "%%", "\n", " ", "{", "(", "}", ")").Replace(s)
}
