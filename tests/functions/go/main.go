// A function by AWS's own Go library, for the tests of the OS-only runtimes.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Number int    `json:"number"`
	Fail   string `json:"fail"`
}

type answer struct {
	Events  int    `json:"events"`
	Number  int    `json:"number"`
	ID      string `json:"id"`
	ARN     string `json:"arn"`
	Name    string `json:"name"`
	Left    bool   `json:"left"`
	Handler string `json:"handler"`
}

var events int

func handle(ctx context.Context, asked event) (answer, error) {
	switch asked.Fail {
	case "error":
		return answer{}, errors.New("as asked")
	case "panic":
		panic("as asked")
	}
	events++
	log.Printf("seen %d", asked.Number)
	invoked, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return answer{
		events, asked.Number, invoked.AwsRequestID, invoked.InvokedFunctionArn, lambdacontext.FunctionName,
		time.Until(deadline) > 0, os.Getenv("_HANDLER"),
	}, nil
}

func stream(ctx context.Context, asked event) (io.Reader, error) {
	return strings.NewReader(strings.Repeat("x", asked.Number)), nil
}

func main() {
	if os.Getenv("_HANDLER") == "stream" {
		lambda.Start(stream)
	}
	lambda.Start(handle)
}
