module berth/packaging/site

go 1.26.0

require (
	github.com/yuin/goldmark v1.7.13
	golang.org/x/net v0.47.0
)
