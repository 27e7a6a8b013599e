package db

import (
	"net/http"
	"slices"
)

// dynamodb's clients need some AWS credentials, but not good ones.
var dynamodb = Protocol{
	Name:        "dynamodb",
	Title:       "DynamoDB",
	ALPN:        "teleport-dynamodb",
	Native:      true,
	NeedsDBUser: true,
	opens:       httpOpens,
	answers:     httpAnswers,
	login:       httpProbe,
	refuse:      refuseHTTP(dynamoPage),
	secure:      secureHTTP,
	client: client{
		text: map[Format]func(Endpoint) string{URL: httpURL},
		noCA: []Format{URL},
		env: func(e Endpoint) []string {
			vars := []string{
				"AWS_ENDPOINT_URL_DYNAMODB=" + httpURL(e), "AWS_ENDPOINT_URL_DYNAMODB_STREAMS=" + httpURL(e),
				// Set, since a profile may say otherwise: the endpoint counts, and
				// no other is made of region, account or discovery.
				"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=false", "AWS_ENABLE_ENDPOINT_DISCOVERY=false",
				"AWS_USE_FIPS_ENDPOINT=false", "AWS_USE_DUALSTACK_ENDPOINT=false", "AWS_ACCOUNT_ID_ENDPOINT_MODE=disabled",
			}
			return append(vars, nonEmpty("AWS_CA_BUNDLE", e.CA)...)
		},
		usual:    []string{"aws", "dynamodb", "list-tables"},
		programs: []program{{names: []string{"aws"}, args: awsArgs}},
		command: func(e Endpoint) []string {
			return []string{"aws", "--endpoint-url", httpURL(e), "dynamodb", "list-tables"}
		},
	},
}

// awsArgs name the endpoint to the commands for DynamoDB: the program asks other
// services too.
func awsArgs(x execution) ([]string, error) {
	if slices.ContainsFunc(x.given, func(arg string) bool { return arg == "dynamodb" || arg == "dynamodbstreams" }) {
		return []string{"--endpoint-url", httpURL(x.Endpoint)}, nil
	}
	return nil, nil
}

// dynamoPage is an error of DynamoDB. Source: Amazon DynamoDB developer guide,
// "Error handling": the part of __type after the "#" is the error's name.
func dynamoPage(r Refusal) page {
	name, status := "ServiceUnavailable", httpStatus(r.Kind)
	switch status {
	case http.StatusForbidden:
		name = "AccessDeniedException"
	case http.StatusNotFound:
		name = "ResourceNotFoundException"
	}
	return page{
		status: status, contentType: "application/x-amz-json-1.0",
		body: jsonText(map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + name, "message": r.wholeLine()}),
	}
}
