package db

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

const accessDenied = "access to db denied. User does not have permissions. Confirm database user and name."

// What Teleport 16.0.0-dev was seen to say to these clients.
const (
	pgStartup     = "\x00\x00\x00&\x00\x03\x00\x00user\x00postgres\x00database\x00appdb\x00\x00"
	pgDenied      = "E\x00\x00\x00[M" + accessDenied + "\x00\x00"
	pgLetIn       = "R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x09a\x00bc\x00K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02"
	mysqlGreeting = "D\x00\x00\x00\n\x00\x12'\x00\x00}<}2XACs\x00\r\xa2!\x00\x008\x00\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x007pIiA7f?deod\x00mysql_native_password\x00"
	mysqlDenied   = "]\x00\x00\x02\xffQ\x04#HY000" + accessDenied
	mongoDenied   = "\xa6\x00\x00\x00\x00\x00\x00\x00\a\x00\x00\x00\xdd\a\x00\x00\x00\x00\x00\x00\x00\x91\x00\x00\x00\x10ok\x00\x00\x00\x00\x00\x02errmsg\x00x\x00\x00\x00error authorizing database access\n\t" + accessDenied + "\x00\x00"
	mongoQueried  = "\xab\x00\x00\x00\x00\x00\x00\x00\a\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x87\x00\x00\x00\x02$err\x00x\x00\x00\x00error authorizing database access\n\t" + accessDenied + "\x00\x00"
	elasticDenied = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n" +
		`{"reason":"` + accessDenied + `","type":"access_denied_exception"}`
	elasticAway = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n" +
		`{"reason":"Get \"https://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused","type":"internal_server_error_exception"}`
	clickHouseAway = "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\ndial tcp 127.0.0.1:1: connect: connection refused"
)

var mysqlLogin4 = "<\x00\x00\x01\x05\xa2\b\x00\x00\x00\x00\x01-" + strings.Repeat("\x00", 23) + "root\x00\x00mysql_native_password\x00"

func redisSays(s string) string { return "*1\r\n$4\r\nPING\r\n" + s }

func TestAnswers(t *testing.T) {
	cql := func(code byte, body string) string {
		return "\x84\x00\x00\x00" + string([]byte{code}) + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
	}
	for name, tt := range map[string]struct {
		proto          Protocol
		client, server string
		ended          bool
		want           string // the refusal; "served", or "nothing"
	}{
		"postgres_denied":    {postgres, pgStartup, pgDenied, false, "refused by Teleport: " + accessDenied},
		"postgres_retold":    {postgres, pgStartup, string(pgRetell([]byte(pgDenied), "a hint")), false, "refused by Teleport: " + accessDenied},
		"postgres_declines":  {postgres, pgHello + pgStartup, "N" + pgDenied, false, "refused by Teleport: " + accessDenied},
		"postgres_declined":  {postgres, pgHello, "N", false, "nothing"},
		"postgres_down":      {postgres, pgStartup, "E\x00\x00\x00\x19Mconnection refused\x00\x00", false, "refused by Teleport: connection refused"},
		"postgres_database":  {postgres, pgStartup, "E\x00\x00\x00\x2cSFATAL\x00C3D000\x00Mdatabase \"x\" is missing\x00\x00", false, `refused by the database: database "x" is missing (SQLSTATE 3D000)`},
		"postgres_in":        {postgres, pgStartup, pgLetIn + "Z\x00\x00\x00\x05I", false, "served"},
		"postgres_starts":    {postgres, pgStartup, pgLetIn, false, "nothing"},
		"postgres_ends":      {postgres, pgStartup, pgLetIn, true, "served"},
		"postgres_role":      {postgres, pgStartup, pgLetIn + "E\x00\x00\x00\x2cSFATAL\x00C28000\x00Mlogin as \"x\" is missing\x00\x00", false, `refused by the database: login as "x" is missing (SQLSTATE 28000)`},
		"postgres_password":  {postgres, pgStartup, "R\x00\x00\x00\x08\x00\x00\x00\x03", false, "nothing"},
		"mysql_denied":       {mysql, mysqlLogin4, mysqlGreeting + mysqlDenied, false, "refused by Teleport: " + accessDenied},
		"mysql_password":     {mysql, mysqlLogin4, mysqlGreeting + "'\x00\x00\x02\xffQ\x04#HY000access denied without password", false, "refused by Teleport: access denied without password"},
		"mysql_database":     {mysql, mysqlLogin4, mysqlGreeting + "\x1d\x00\x00\x02\xff\x19\x04#42000Unknown database 'x'", false, "refused by the database: Unknown database 'x' (error 1049)"},
		"mysql_at_once":      {mysql, "", "\x1b\x00\x00\x01\xffQ\x04#HY000connection refused", false, "refused by Teleport: connection refused"},
		"mysql_greeted":      {mysql, "", mysqlGreeting, false, "nothing"},
		"mysql_in":           {mysql, mysqlLogin4, mysqlGreeting + "\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00", false, "served"},
		"mysql_stranger":     {mysql, spoken["HTTP"], mysqlGreeting + "\x1b\x00\x00\x01\xffQ\x04invalid sequence 32 != 1", false, "nothing"},
		"redis_denied":       {redis, redisSays(""), "-ERR Teleport: " + accessDenied + "\r\n", false, "refused by Teleport: " + accessDenied},
		"redis_silent":       {redis, "", "-ERR Teleport: " + accessDenied + "\r\n", true, "refused by Teleport: " + accessDenied},
		"redis_password":     {redis, redisSays(""), "-WRONGPASS invalid username-password pair or user is disabled.\r\n", false, "refused by the database: WRONGPASS invalid username-password pair or user is disabled."},
		"redis_hello":        {redis, redisSays(""), "-ERR unknown command 'HELLO', with args beginning with: '3'\r\n", false, "nothing"},
		"redis_hello_denied": {redis, redisSays(""), "-ERR unknown command 'HELLO'\r\n-ERR Teleport: down\r\n", false, "refused by Teleport: down"},
		"redis_in":           {redis, redisSays(""), "+PONG\r\n", false, "served"},
		"redis_stranger":     {redis, spoken["HTTP"], "-ERR Teleport: redis: can't parse \"GET / HTTP/1.1\"\r\n", false, "nothing"},
		"mongodb_denied":     {mongodb, helloMsg, mongoDenied, false, "refused by Teleport: error authorizing database access " + accessDenied},
		"mongodb_queried":    {mongodb, helloMsg, mongoQueried, false, "refused by Teleport: error authorizing database access " + accessDenied},
		"mongodb_in":         {mongodb, helloMsg, strings.Replace(mongoDenied, "ok\x00\x00", "ok\x00\x01", 1), false, "served"},
		"elastic_denied":     {elasticsearch, spoken["HTTP"], elasticDenied, true, "refused by Teleport: " + accessDenied},
		"elastic_cut":        {elasticsearch, spoken["HTTP"], elasticDenied[:120], false, "nothing"},
		"elastic_away":       {elasticsearch, spoken["HTTP"], elasticAway, true, `refused by Teleport: Get "https://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused`},
		"elastic_forbids":    {elasticsearch, spoken["HTTP"], "HTTP/1.1 403 Forbidden\r\nContent-Length: 57\r\n\r\n" + `{"error":{"type":"security_exception","reason":"no way"}}`, false, "refused by the database: no way"},
		"elastic_fails":      {elasticsearch, spoken["HTTP"], "HTTP/1.1 500 Oh\r\nContent-Length: 22\r\n\r\n" + `{"error":"secret data"}`, false, "served"},
		"elastic_berth":      {elasticsearch, spoken["HTTP"], "HTTP/1.1 503 Service Unavailable\r\nServer: berth\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nno", false, "refused by berth: no"},
		"elastic_in":         {elasticsearch, spoken["HTTP"], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", false, "served"},
		"clickhouse_away":    {clickhouseHTTP, spoken["HTTP"], clickHouseAway, true, "refused by Teleport: dial tcp 127.0.0.1:1: connect: connection refused"},
		"clickhouse_native":  {clickhouse, "\x00\x01c", "\x02\x00\x02\x00\x00\x0dDB::Exception\x06denied", false, "refused by the database: denied"},
		"clickhouse_in":      {clickhouse, "\x00\x01c", "\x00\x0aClickHouse", false, "served"},
		"cassandra_denied":   {cassandra, "\x04\x00\x00\x00\x01\x00\x00\x00\x00", cql(3, "\x00\x01x") + cql(0, "\x00\x00\x01\x00\x00\x06denied"), false, "refused by Teleport: denied"},
		"cassandra_database": {cassandra, "\x04\x00\x00\x00\x01\x00\x00\x00\x00", cql(0, "\x00\x00\x10\x01\x00\x04busy"), false, "refused by the database: busy (error 0x1001)"},
		"cassandra_password": {cassandra, "\x04\x00\x00\x00\x01\x00\x00\x00\x00", cql(0, "\x00\x00\x01\x00\x00\x0cbad password"), false, "refused by the database: bad password (error 0x0100)"},
		"sqlserver_denied":   {sqlserver, "\x12", tdsErrorOf(28353, "denied"), false, "refused by Teleport: denied"},
		"sqlserver_database": {sqlserver, "\x12", tdsErrorOf(4060, "no such"), false, "refused by the database: no such (error 4060)"},
		"cassandra_in":       {cassandra, "\x04\x00\x00\x00\x01\x00\x00\x00\x00", cql(6, "") + cql(2, ""), false, "served"},
		"hostile":            {redis, redisSays(""), "-ERR Teleport: \x1b]0;pwned\x07red\x1b[31m \u202eevil\r\n", false, "refused by Teleport: red evil"},
	} {
		t.Run(name, func(t *testing.T) {
			h := tt.proto.Listen()
			h.Client([]byte(tt.client))
			got := "nothing"
			judge := func(answered bool, refused error) {
				switch {
				case refused != nil:
					got = refused.Error()
				case answered && got == "nothing":
					got = "served"
				}
			}
			var heard strings.Builder
			for i := range len(tt.server) { // however it is cut
				if got != "nothing" {
					heard.WriteString(tt.server[i:])
					break
				}
				pass, answered, refused := h.Server([]byte(tt.server[i : i+1]))
				heard.Write(pass)
				judge(answered, refused)
			}
			if tt.ended && got == "nothing" {
				judge(h.Ended())
			}
			if got != tt.want {
				t.Errorf("heard %q, want %q", got, tt.want)
			}
			if heard.String() != tt.server {
				t.Errorf("passed on %q", heard.String())
			}
			whole := tt.proto.Listen() // and in one piece
			whole.Client([]byte(tt.client))
			_, answered, refused := whole.Server([]byte(tt.server))
			if !answered && tt.ended {
				answered, refused = whole.Ended()
			}
			if (refused != nil) != strings.HasPrefix(tt.want, "refused") || answered == (tt.want == "nothing") {
				t.Errorf("in one piece: answered %v, %v", answered, refused)
			}
		})
	}
}

const helloMsg = "4\x00\x00\x00\x0f\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00\x00\x00\x00\x00\x00\x1f\x00\x00\x00\x10hello\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00\x00"

// TestHints: a client that names a user whom it may not be hears whom it may be.
func TestHints(t *testing.T) {
	for name, tt := range map[string]struct {
		allowed []string
		want    string
	}{
		"unknown": {nil, ""},
		"any":     {[]string{"*"}, ""},
		"allowed": {[]string{"postgres", "root"}, ""}, // it was the database's name
		"others":  {[]string{"app", "reader"}, "is not among the database users whom you may be: app, reader"},
	} {
		t.Run(name, func(t *testing.T) {
			h := postgres.Listen(tt.allowed...)
			h.Client([]byte(pgStartup))
			pass, _, err := h.Server([]byte(pgDenied))
			var refused *RefusedError
			if !errors.As(err, &refused) || refused.User != "postgres" || refused.Unlisted != (tt.want != "") {
				t.Errorf("refused with %+v", refused)
			}
			var msg pgproto3.ErrorResponse
			if err := msg.Decode(pass[5:]); err != nil || msg.Message != accessDenied || !strings.HasSuffix(msg.Hint, tt.want) || (msg.Hint == "") != (tt.want == "") {
				t.Errorf("passed on %q, %v", pass, err)
			}
			h = mysql.Listen(tt.allowed...)
			h.Client([]byte(mysqlLogin4))
			h.Server([]byte(mysqlGreeting))
			pass, _, _ = h.Server([]byte(mysqlDenied))
			want := mysqlDenied[mysqlHead:]
			if tt.want != "" {
				want += ` Hint: "root" ` + tt.want
			}
			if got := string(pass[mysqlHead:]); got != want || mysqlSize(pass) != len(got) || pass[3] != 2 {
				t.Errorf("passed on %q", pass)
			}
		})
	}
}

// FuzzHearing: nothing that either side says breaks the hearing.
func FuzzHearing(f *testing.F) {
	for i := range protocols {
		f.Add(i, []byte(pgStartup), []byte(pgDenied))
		f.Add(i, []byte(spoken["HTTP"]), []byte(elasticDenied))
		f.Add(i, []byte(mysqlLogin4), []byte(mysqlGreeting+mysqlDenied))
		f.Add(i, []byte(helloMsg), []byte(mongoDenied))
	}
	f.Fuzz(func(t *testing.T, which int, client, server []byte) {
		p := protocols[uint(which)%uint(len(protocols))]
		h := p.Listen("app")
		h.Client(client)
		if pass, _, refused := h.Server(server); refused == nil && string(pass) != string(server) {
			t.Errorf("%s: passed on %q for %q", p.Name, pass, server)
		}
		h.Ended()
		h.AnswerDue()
		_ = h.Stranger()
	})
}

// tdsErrorOf is SQL Server's answer to a login: an ERROR token with its number.
func tdsErrorOf(number uint32, text string) string {
	token := binary.LittleEndian.AppendUint32([]byte{tdsError, 0, 0}, number)
	token = binary.LittleEndian.AppendUint16(append(token, 1, 14), uint16(len(text)))
	for _, c := range []byte(text) {
		token = append(token, c, 0)
	}
	packet := binary.BigEndian.AppendUint16([]byte{tdsReply, 1}, uint16(tdsHead+len(token)))
	return string(append(append(packet, 0, 0, 1, 0), token...))
}
