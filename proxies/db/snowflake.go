package db

import "net/http"

var snowflake = Protocol{
	Name:        "snowflake",
	Title:       "Snowflake",
	ALPN:        "teleport-snowflake",
	Native:      true,
	NeedsDBUser: true,
	opens:       httpOpens,
	answers:     httpAnswers,
	refuse:      refuseHTTP(snowflakePage),
	secure:      secureHTTP,
	client: client{
		text: map[Format]func(Endpoint) string{
			URL: httpURL,
			JDBC: func(e Endpoint) string {
				return jdbcURL("snowflake", e, "",
					"account", snowflakeAccount, "user", e.DBUser, "db", e.DBName, "ssl", e.secure([]string{"on"}, []string{"off"})[0])
			},
		},
		noCA: []Format{URL, JDBC, Env},
		env: func(e Endpoint) []string {
			return nonEmpty("SNOWSQL_ACCOUNT", snowflakeAccount, "SNOWSQL_USER", e.DBUser, "SNOWSQL_PWD", unusedPassword,
				"SNOWSQL_HOST", e.Host, "SNOWSQL_PORT", e.port(), "SNOWSQL_PROTOCOL", e.scheme(), "SNOWSQL_DATABASE", e.DBName,
				"SNOWFLAKE_ACCOUNT", snowflakeAccount, "SNOWFLAKE_USER", e.DBUser, "SNOWFLAKE_PASSWORD", unusedPassword,
				"SNOWFLAKE_HOST", e.Host, "SNOWFLAKE_PORT", e.port(), "SNOWFLAKE_PROTOCOL", e.scheme(), "SNOWFLAKE_DATABASE", e.DBName)
		},
		clear: []string{
			"SNOWSQL_REGION", "SNOWSQL_AUTHENTICATOR", "SNOWSQL_PRIVATE_KEY_PASSPHRASE", "SNOWFLAKE_REGION", "SNOWFLAKE_AUTHENTICATOR",
			"SNOWFLAKE_CONNECTIONS_*", "SNOWFLAKE_DEFAULT_CONNECTION_NAME", "SNOWFLAKE_PRIVATE_KEY*", "SNOWFLAKE_TOKEN*",
			"SNOWFLAKE_ORGANIZATION_NAME", "SNOWFLAKE_ACCOUNT_NAME", "SNOWFLAKE_PROFILE",
		},
		command: func(e Endpoint) []string { return append([]string{"snowsql"}, snowsqlArgs(e)...) },
		usual:   []string{"snowsql"},
		programs: []program{
			{names: []string{"snowsql"}, args: always(snowsqlArgs)},
			{names: []string{"snow"}, refuse: "takes its server from its own connections before all else"},
		},
	},
}

func snowsqlArgs(e Endpoint) []string {
	argv := []string{"-a", snowflakeAccount, "-h", e.Host, "-p", e.port(), "--protocol", e.scheme()}
	return args(args(argv, "-u", e.DBUser), "-d", e.DBName)
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
