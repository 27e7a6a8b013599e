package simdb

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// redisSay sends raw commands and returns everything that comes back.
func redisSay(t *testing.T, addr *net.TCPAddr, commands string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, commands+"QUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(answer), "+OK\r\n")
}

func TestRedisCommands(t *testing.T) {
	addr := serve(t, NewRedis(), testSession())
	for _, tt := range []struct{ name, say, want string }{
		{"ping", "PING\r\n", "+PONG\r\n"},
		{"resp", "*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n", "$3\r\nabc\r\n"},
		{"set_and_get", "SET a 1\r\nGET a\r\n", "+OK\r\n$1\r\n1\r\n"},
		{"missing", "GET nope\r\n", "$-1\r\n"},
		{"auth", "AUTH any thing\r\n", "-WRONGPASS invalid username-password pair"},
		{"auth_alone", "AUTH thing\r\n", "-ERR Teleport: failed to authenticate as the default user"},
		{"client", "CLIENT SETNAME me\r\n", "+OK\r\n"},
		{"hello", "HELLO 3\r\n", "-ERR unknown command 'HELLO', with args beginning with: '3'\r\n"},
		{"unknown", "NONSENSE\r\n", "-ERR unknown command 'NONSENSE'"},
		{"too_few_arguments", "SET a\r\n", "-ERR wrong number of arguments for 'set' command\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := redisSay(t, addr, tt.say); !strings.Contains(got, tt.want) {
				t.Errorf("%q answered %q, want %q", tt.say, got, tt.want)
			}
		})
	}
}

func TestRedisRefusal(t *testing.T) {
	if got := redisSay(t, serve(t, NewRedis(), refuse()), "PING\r\n"); got != "-ERR Teleport: access to db denied\r\n" {
		t.Errorf("refused client got %q", got)
	}
}

func TestRedisCLI(t *testing.T) {
	addr := serve(t, NewRedis(), testSession())
	cli := func(args ...string) (string, error) {
		return run(t, "redis-cli", append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(addr.Port)}, args...)...)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"ping"}, "PONG"},
		{[]string{"set", "k", "hello world"}, "OK"},
		{[]string{"get", "k"}, "hello world"},
		{[]string{"get", "nope"}, ""},
	} {
		if got, err := cli(tt.args...); err != nil || got != tt.want {
			t.Errorf("redis-cli %q = %q, %v; want %q", tt.args, got, err, tt.want)
		}
	}
}
