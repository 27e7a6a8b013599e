package db

var cassandra = &client{
	text: map[Format]func(Endpoint) string{
		JDBC: func(e Endpoint) string { return jdbcURL("cassandra", e, e.DBName) },
	},
	env: func(e Endpoint) []string {
		return []string{"CQLSH_HOST=" + e.Host, "CQLSH_PORT=" + e.port()}
	},
	command: func(e Endpoint) []string {
		argv := []string{"cqlsh"}
		if e.DBUser != "" {
			argv = append(argv, "-u", e.DBUser, "-p", unusedPassword)
		}
		return append(args(argv, "-k", e.DBName), e.Host, e.port())
	},
}

var clickhouse = &client{
	text: map[Format]func(Endpoint) string{URL: clickhouseURL},
	env: func(e Endpoint) []string {
		return nonEmpty("CLICKHOUSE_HOST", e.Host, "CLICKHOUSE_PORT", e.port(), "CLICKHOUSE_USER", e.DBUser,
			"DATABASE_URL", clickhouseURL(e))
	},
	command: func(e Endpoint) []string {
		argv := []string{"clickhouse-client", "--host", e.Host, "--port", e.port()}
		return args(args(argv, "--user", e.DBUser), "--database", e.DBName)
	},
}

func clickhouseURL(e Endpoint) string { return makeURL("clickhouse", e.DBUser, e, e.DBName) }

var clickhouseHTTP = &client{
	text: map[Format]func(Endpoint) string{
		URL: httpURL,
		JDBC: func(e Endpoint) string {
			return jdbcURL("clickhouse", e, e.DBName, "user", e.DBUser, "ssl", "false")
		},
	},
	env:     func(e Endpoint) []string { return []string{"CLICKHOUSE_URL=" + httpURL(e)} },
	command: curl,
}

var elasticsearch = &client{
	text:    map[Format]func(Endpoint) string{URL: httpURL},
	env:     func(e Endpoint) []string { return []string{"ELASTICSEARCH_URL=" + httpURL(e)} },
	command: curl,
}

var opensearch = &client{
	text:    map[Format]func(Endpoint) string{URL: httpURL},
	env:     func(e Endpoint) []string { return []string{"OPENSEARCH_URL=" + httpURL(e)} },
	command: curl,
}

// dynamodb's clients need some AWS credentials, but not good ones.
var dynamodb = &client{
	text: map[Format]func(Endpoint) string{URL: httpURL},
	env: func(e Endpoint) []string {
		return []string{"AWS_ENDPOINT_URL_DYNAMODB=" + httpURL(e), "AWS_ENDPOINT_URL_DYNAMODB_STREAMS=" + httpURL(e)}
	},
	clear: []string{"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"},
	command: func(e Endpoint) []string {
		return []string{"aws", "--endpoint-url", httpURL(e), "dynamodb", "list-tables"}
	},
}

var snowflake = &client{
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
}

// snowflakeAccount fills a field that clients insist on; the cert decides.
const snowflakeAccount = "berth"

// spanner's clients speak plaintext gRPC to what they take for an emulator.
var spanner = &client{
	env: func(e Endpoint) []string { return []string{"SPANNER_EMULATOR_HOST=" + e.addr()} },
}

// oracle's clients need the wallet and the descriptor that tsh makes.
var oracle = &client{}

func httpURL(e Endpoint) string { return makeURL("http", "", e, "") }

func curl(e Endpoint) []string { return []string{"curl", httpURL(e) + "/"} }
