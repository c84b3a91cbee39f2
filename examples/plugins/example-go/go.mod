module example.com/example-go

go 1.19
