// Package sdnotifytest stands in for a service manager.
package sdnotifytest
