package db

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// unusedPassword is for clients that insist on one: Teleport looks at the
// cert, not at the password.
const unusedPassword = "unused"

// makeURL writes scheme://user@host:port/path?query; user and path may be empty.
func makeURL(scheme, user string, e Endpoint, path string, query ...string) string {
	u := url.URL{Scheme: scheme, Host: e.addr()}
	if user != "" {
		u.User = url.User(user)
	}
	if path != "" {
		u.Path, u.RawPath = "/"+path, "/"+escapePath(path)
	}
	u.RawQuery = params("&", query...)
	return u.String()
}

// escapePath escapes one part of a path. A plus is escaped too, as Java's
// decoder takes it for a space.
func escapePath(s string) string { return strings.ReplaceAll(url.PathEscape(s), "+", "%2B") }

// jdbcURL writes jdbc:scheme://host:port/db?query. Some drivers need the slash
// even without a name after it.
func jdbcURL(scheme string, e Endpoint, db string, query ...string) string {
	s := "jdbc:" + scheme + "://" + e.addr() + "/" + escapePath(db)
	if q := params("&", query...); q != "" {
		s += "?" + q
	}
	return s
}

// params writes key=value pairs, leaving out those without a value. A space is
// %20, which every client takes, unlike "+".
func params(separator string, pairs ...string) string {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			parts = append(parts, pairs[i]+"="+strings.ReplaceAll(url.QueryEscape(pairs[i+1]), "+", "%20"))
		}
	}
	return strings.Join(parts, separator)
}

// nonEmpty returns the KEY=VALUE pairs that have a value.
func nonEmpty(pairs ...string) []string {
	var vars []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			vars = append(vars, pairs[i]+"="+pairs[i+1])
		}
	}
	return vars
}

// args appends flag and value to argv when there is a value.
func args(argv []string, flag, value string) []string {
	if value == "" {
		return argv
	}
	return append(argv, flag, value)
}

var postgres = &client{
	text: map[Format]func(Endpoint) string{
		URL: postgresURL,
		JDBC: func(e Endpoint) string {
			return jdbcURL("postgresql", e, e.DBName, "user", e.DBUser, "sslmode", "disable")
		},
		DSN: func(e Endpoint) string {
			vars := nonEmpty("host", e.Host, "port", e.port(), "user", e.DBUser, "dbname", e.DBName)
			for i, kv := range vars {
				key, value, _ := strings.Cut(kv, "=")
				vars[i] = key + "=" + libpqQuote(value)
			}
			return strings.Join(append(vars, "sslmode=disable"), " ")
		},
		PGService: func(e Endpoint) string {
			lines := nonEmpty("host", e.Host, "port", e.port(), "user", e.DBUser, "dbname", e.DBName)
			return "[" + e.TunnelName + "]\n" + strings.Join(append(lines, "sslmode=disable"), "\n")
		},
	},
	env: func(e Endpoint) []string {
		return nonEmpty("PGHOST", e.Host, "PGPORT", e.port(), "PGUSER", e.DBUser, "PGDATABASE", e.DBName,
			"PGSSLMODE", "disable",
			"PGGSSENCMODE", "disable", // with a Kerberos ticket libpq would ask for it first
			"DATABASE_URL", postgresURL(e))
	},
	clear: []string{"PGHOSTADDR", "PGSERVICE"},
	command: func(e Endpoint) []string {
		return []string{"psql", postgresURL(e)}
	},
	refuse: func(e Endpoint, f Format) error {
		if f == PGService && (e.TunnelName == "" || strings.ContainsAny(e.TunnelName, "[]")) {
			return fmt.Errorf("%q cannot name a section of a service file", e.TunnelName)
		}
		return nil
	},
}

func postgresURL(e Endpoint) string {
	return makeURL("postgres", e.DBUser, e, e.DBName, "sslmode", "disable")
}

// libpqQuote quotes a value of a libpq connection string.
func libpqQuote(s string) string {
	if s != "" && !strings.ContainsAny(s, ` '\`) {
		return s
	}
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

var mysql = mysqlClient("mysql", "sslMode", "DISABLED")

var mariadb = mysqlClient("mariadb", "sslMode", "disable")

// mysqlClient makes the client of MySQL or MariaDB; their JDBC drivers differ.
func mysqlClient(jdbc, tlsKey, tlsOff string) *client {
	toURL := func(e Endpoint) string { return makeURL("mysql", e.DBUser, e, e.DBName) }
	return &client{
		text: map[Format]func(Endpoint) string{
			URL: toURL,
			JDBC: func(e Endpoint) string {
				return jdbcURL(jdbc, e, e.DBName, "user", e.DBUser, tlsKey, tlsOff)
			},
			DSN: func(e Endpoint) string {
				user := ""
				if e.DBUser != "" {
					user = e.DBUser + "@"
				}
				return user + "tcp(" + e.addr() + ")/" + escapePath(e.DBName)
			},
			MyCnf: myCnf,
		},
		// No variable names the user: its clients take it from the option
		// file or the command line.
		env: func(e Endpoint) []string {
			return nonEmpty("MYSQL_HOST", e.Host, "MYSQL_TCP_PORT", e.port(), "DATABASE_URL", toURL(e))
		},
		command: func(e Endpoint) []string {
			argv := []string{"mysql", "--protocol=TCP", "-h", e.Host, "-P", e.port()}
			argv = args(argv, "-u", e.DBUser)
			if e.DBName != "" {
				argv = append(argv, "--database="+e.DBName)
			}
			return argv
		},
		refuse: func(e Endpoint, f Format) error {
			if f == DSN && strings.Contains(e.DBUser, ":") {
				return fmt.Errorf("a DSN cannot hold the user %q: a colon would begin a password", e.DBUser)
			}
			return nil
		},
	}
}

// myCnf writes option file sections. The database stands apart, since not all
// clients that read [client] know it.
func myCnf(e Endpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[client]\nprotocol=TCP\nhost=%s\nport=%d", e.Host, e.Port)
	if e.DBUser != "" {
		fmt.Fprintf(&b, "\nuser=%s", optionQuote(e.DBUser))
	}
	if e.DBName != "" {
		fmt.Fprintf(&b, "\n\n[mysql]\ndatabase=%s", optionQuote(e.DBName))
	}
	return b.String()
}

// optionQuote quotes a value of a MySQL option file: "#" would begin a comment.
func optionQuote(s string) string {
	return `"` + strings.ReplaceAll(s, `\`, `\\`) + `"`
}

// mongodb's clients must not name the user: they would try to log in as it.
var mongodb = &client{
	text: map[Format]func(Endpoint) string{URL: mongoURL},
	env: func(e Endpoint) []string {
		return []string{"MONGODB_URI=" + mongoURL(e), "DATABASE_URL=" + mongoURL(e)}
	},
	command: func(e Endpoint) []string { return []string{"mongosh", mongoURL(e)} },
}

func mongoURL(e Endpoint) string {
	u := makeURL("mongodb", "", e, e.DBName, "directConnection", "true")
	if e.DBName == "" { // the slash before the question mark is required
		u = strings.Replace(u, "?", "/?", 1)
	}
	return u
}

// redis's clients must not name the user: they would try to log in as it.
var redis = &client{
	text: map[Format]func(Endpoint) string{
		URL:  redisURL,
		JDBC: func(e Endpoint) string { return jdbcURL("redis", e, redisDB(e)) },
	},
	// redis-cli has no variables for host and port; many libraries take this.
	env: func(e Endpoint) []string { return []string{"REDIS_URL=" + redisURL(e)} },
	command: func(e Endpoint) []string {
		return args([]string{"redis-cli", "-h", e.Host, "-p", e.port()}, "-n", redisDB(e))
	},
	clear: []string{"REDISCLI_AUTH"}, // it would be sent, and refused
}

func redisURL(e Endpoint) string { return makeURL("redis", "", e, redisDB(e)) }

// redisDB is the database's number: Redis has no names for them.
func redisDB(e Endpoint) string {
	if _, err := strconv.ParseUint(e.DBName, 10, 16); err != nil {
		return ""
	}
	return e.DBName
}

var sqlserver = &client{
	text: map[Format]func(Endpoint) string{
		URL: sqlserverURL,
		JDBC: func(e Endpoint) string {
			s := "jdbc:sqlserver://" + e.addr()
			if strings.Contains(e.Host, ":") { // the driver takes no brackets
				s = "jdbc:sqlserver://;serverName=" + e.Host + ";port=" + e.port()
			}
			for _, kv := range nonEmpty("databaseName", e.DBName, "user", e.DBUser) {
				key, value, _ := strings.Cut(kv, "=")
				s += ";" + key + "=" + braces(value)
			}
			return s + ";encrypt=false"
		},
		DSN: func(e Endpoint) string {
			var s strings.Builder
			s.WriteString("Server=tcp:" + e.Host + "," + e.port())
			for _, kv := range nonEmpty("Database", e.DBName, "User ID", e.DBUser) {
				key, value, _ := strings.Cut(kv, "=")
				s.WriteString(";" + key + "=" + adoQuote(value))
			}
			return s.String() + ";Encrypt=False"
		},
	},
	env: func(e Endpoint) []string {
		return nonEmpty("SQLCMDSERVER", "tcp:"+e.Host+","+e.port(), "SQLCMDUSER", e.DBUser,
			"SQLCMDPASSWORD", unusedPassword, "SQLCMDDBNAME", e.DBName, "DATABASE_URL", sqlserverURL(e))
	},
	command: func(e Endpoint) []string {
		argv := args([]string{"sqlcmd", "-S", "tcp:" + e.Host + "," + e.port()}, "-U", e.DBUser)
		return args(append(argv, "-P", unusedPassword), "-d", e.DBName)
	},
}

func sqlserverURL(e Endpoint) string {
	return makeURL("sqlserver", e.DBUser, e, "", "database", e.DBName, "encrypt", "disable")
}

// braces quotes a property of a SQL Server JDBC URL.
func braces(s string) string {
	if !strings.ContainsAny(s, ";{}= ") {
		return s
	}
	return "{" + strings.ReplaceAll(s, "}", "}}") + "}"
}

// adoQuote quotes a value of an ADO.NET connection string.
func adoQuote(s string) string {
	if !strings.ContainsAny(s, `;"'= `) {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}
