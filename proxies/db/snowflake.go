package db

import "net/http"

var snowflake = Protocol{
	Name:        "snowflake",
	Title:       "Snowflake",
	ALPN:        "teleport-snowflake",
	Native:      true,
	NeedsDBUser: true,
	opens:       httpOpens,
	refuse:      refuseHTTP(snowflakePage),
	secure:      secureDirect(alpnHTTP),
	client: client{
		text: map[Format]func(Endpoint) string{
			URL: httpURL,
			JDBC: func(e Endpoint) string {
				return jdbcURL("snowflake", e, "",
					"account", snowflakeAccount, "user", e.DBUser, "db", e.DBName, "ssl", "off")
			},
		},
		env: func(e Endpoint) []string {
			return nonEmpty("SNOWSQL_ACCOUNT", snowflakeAccount, "SNOWSQL_USER", e.DBUser, "SNOWSQL_PWD", unusedPassword,
				"SNOWSQL_HOST", e.Host, "SNOWSQL_PORT", e.port(), "SNOWSQL_PROTOCOL", "http", "SNOWSQL_DATABASE", e.DBName)
		},
		command: func(e Endpoint) []string {
			argv := []string{"snowsql", "-a", snowflakeAccount, "-h", e.Host, "-p", e.port(), "--protocol", "http"}
			return args(args(argv, "-u", e.DBUser), "-d", e.DBName)
		},
	},
}

// snowflakeAccount fills a field that clients insist on; the cert decides.
const snowflakeAccount = "berth"

// snowflakePage is a failed login, or any other failed call. Snowflake says so
// with status 200; to others its drivers retry for minutes and print no text.
// Source: auth.go and retry.go of gosnowflake, which reads the code as a
// number. 390422 is "not allowed to access Snowflake".
func snowflakePage(r Refusal) page {
	return page{
		status: http.StatusOK, contentType: "application/json",
		body: jsonText(map[string]any{"success": false, "code": "390422", "message": r.wholeLine(), "data": nil}),
	}
}
