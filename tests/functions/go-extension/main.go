// An external extension on the standard library alone.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"
	name := filepath.Base(os.Args[0])
	request, _ := http.NewRequest("POST", api+"register", strings.NewReader(`{"events": ["INVOKE", "SHUTDOWN"]}`))
	request.Header.Set("Lambda-Extension-Name", name)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	answer.Body.Close()
	identifier := answer.Header.Get("Lambda-Extension-Identifier")
	for {
		request, _ := http.NewRequest("GET", api+"event/next", nil)
		request.Header.Set("Lambda-Extension-Identifier", identifier)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			panic(err)
		}
		var event struct{ EventType, ShutdownReason string }
		if err := json.NewDecoder(answer.Body).Decode(&event); err != nil {
			panic(err)
		}
		answer.Body.Close()
		fmt.Println(strings.TrimSpace(name + " got " + event.EventType + " " + event.ShutdownReason))
		if event.EventType == "SHUTDOWN" {
			return
		}
	}
}
